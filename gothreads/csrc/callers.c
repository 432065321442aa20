/* A caller's slot, a caller, and the idle callers, with fields that C can use without running Python code. The Python
   versions are in engine/callers.py.

   The lock of an IdleCallers guards the door (`open`) and the stack (`callers`, `count`, `capacity`). It is held for
   some ten instructions.

   Invariants:
   1. A caller is on the stack once, or one thread has it. That thread alone uses the caller, its slot and its
      functions; the next one sees what it has written, since both have held the lock.

   2. Who closes the door, and then counts the idle callers, sees each call that came in before: a thread looks at the
      door and takes a caller in one step. (callback_m.py, invariant 4, has the same for threads that come by Python.)

        taker    locks   open: yes   count - 1   unlocks
        closer                                            locks   open = no   unlocks   ...   locks   count: it is out
      or
        closer   locks   open = no   unlocks
        taker                                 locks   open: no, so it takes none   unlocks

      Without one lock for both, each could look before the other's store was to be seen, on any processor.

   3. A thread that waits counts itself first, and then tries to take a caller; who puts one back does so first, and
      then reads `waiting` (callback_m.py). Both go through the lock in between, in one order or the other: either the
      one who waits finds the caller, or its count is seen.

   `passed` and `over` decide who overtakes whom, and whether a caller is kept: an old value costs that, and no more. */

#include "fast.h"

static PyTypeObject *Caller_type;
PyTypeObject *gt_idle_callers_type;

static PyMemberDef Slot_members[] = {
    {"address", T_UINT, offsetof(Slot, address), 0, "The slot's address in the module; 0 until it is opened."},
    {"requests", T_LONGLONG, offsetof(Slot, requests), 0, "How many requests were begun since the slot was opened."},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot Slot_slots[] = {
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, gt_free_object},
    {Py_tp_members, Slot_members},
    {Py_tp_doc, "A caller's slot: its address in the module, and how many requests were begun on it."},
    {0, NULL},
};
static PyType_Spec Slot_spec = {
    "gothreads._fast.Slot", sizeof(Slot), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, Slot_slots,
};

static PyObject *Caller_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Caller *self = (Caller *)PyType_GenericAlloc(type, 0);
    (void)args;
    (void)kwargs;
    if (self == NULL)
        return NULL;
    self->functions = PyDict_New();
    if (self->functions == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int Caller_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((Caller *)self)->functions);
    Py_VISIT(((Caller *)self)->slot);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int Caller_clear(PyObject *self)
{
    Py_CLEAR(((Caller *)self)->functions);
    Py_CLEAR(((Caller *)self)->slot);
    return 0;
}

static void Caller_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Caller_clear(self);
    gt_free_object(self);
}

static PyMemberDef Caller_members[] = {
    {"functions", T_OBJECT_EX, offsetof(Caller, functions), READONLY, "The instance's exported functions, by name."},
    {"slot", T_OBJECT_EX, offsetof(Caller, slot), 0,
     "The Slot through which bytes are passed between the host and Go."},
    {"since", T_DOUBLE, offsetof(Caller, since), 0,
     "When the caller was last taken or put back, in seconds of the monotonic clock."},
    {"calls", T_LONGLONG, offsetof(Caller, calls), 0, "How many calls it has made."},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot Caller_slots[] = {
    {Py_tp_new, Caller_new},
    {Py_tp_dealloc, Caller_dealloc},
    {Py_tp_traverse, Caller_traverse},
    {Py_tp_clear, Caller_clear},
    {Py_tp_members, Caller_members},
    {Py_tp_doc, "A caller. Only one thread at a time may use it."},
    {0, NULL},
};
static PyType_Spec Caller_spec = {
    "gothreads._fast.Caller", sizeof(Caller), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    Caller_slots,
};

int gt_grow_idle(IdleCallers *idle)
{
    Py_ssize_t more = idle->capacity ? idle->capacity * 2 : 64;
    Caller **grown = PyMem_Realloc(idle->callers, (size_t)more * sizeof *grown);
    if (grown == NULL)
        return -1;
    idle->callers = grown;
    idle->capacity = more;
    return 0;
}

int gt_lose_caller(Caller *caller)
{
    Py_DECREF((PyObject *)caller);
    PyErr_NoMemory();
    return -1;
}

static PyObject *add(PyObject *self, PyObject *caller, int at_bottom)
{
    IdleCallers *idle = (IdleCallers *)self;
    int failed;
    if (!PyObject_TypeCheck(caller, Caller_type)) {
        PyErr_Format(PyExc_TypeError, "a Caller is needed, not %R", (PyObject *)Py_TYPE(caller));
        return NULL;
    }
    Py_INCREF(caller);
    gt_lock(&idle->lock);
    failed = idle->count == idle->capacity && gt_grow_idle(idle);
    if (!failed) {
        Py_ssize_t place = at_bottom ? 0 : idle->count;
        memmove(idle->callers + place + 1, idle->callers + place,
                (size_t)(idle->count - place) * sizeof *idle->callers);
        idle->callers[place] = (Caller *)caller;
        idle->count++;
    }
    gt_unlock(&idle->lock);
    if (failed) {
        gt_lose_caller((Caller *)caller);
        return NULL;
    }
    Py_RETURN_NONE;
}

#define TOP PY_SSIZE_T_MAX

static PyObject *IdleCallers_append(PyObject *self, PyObject *caller)
{
    return add(self, caller, 0);
}

static PyObject *IdleCallers_appendleft(PyObject *self, PyObject *caller)
{
    return add(self, caller, 1);
}

/* `place`: from the bottom, or TOP. NULL, with an IndexError, if there is none. */
static PyObject *get(PyObject *self, Py_ssize_t place, int removes)
{
    IdleCallers *idle = (IdleCallers *)self;
    PyObject *found = NULL;
    gt_lock(&idle->lock);
    if (place == TOP)
        place = idle->count - 1;
    if (place >= 0 && place < idle->count) {
        found = (PyObject *)idle->callers[place];
        if (removes) {
            idle->count--;
            memmove(idle->callers + place, idle->callers + place + 1,
                    (size_t)(idle->count - place) * sizeof *idle->callers);
        } else {
            Py_INCREF(found);
        }
    }
    gt_unlock(&idle->lock);
    if (found == NULL)
        PyErr_SetString(PyExc_IndexError, "there is no such idle caller");
    return found;
}

static PyObject *IdleCallers_pop(PyObject *self, PyObject *unused)
{
    (void)unused;
    return get(self, TOP, 1);
}

static PyObject *IdleCallers_popleft(PyObject *self, PyObject *unused)
{
    (void)unused;
    return get(self, 0, 1);
}

static PyObject *IdleCallers_item(PyObject *self, Py_ssize_t place)
{
    return get(self, place, 0);
}

static Py_ssize_t IdleCallers_length(PyObject *self)
{
    IdleCallers *idle = (IdleCallers *)self;
    Py_ssize_t count;
    gt_lock(&idle->lock);
    count = idle->count;
    gt_unlock(&idle->lock);
    return count;
}

static PyObject *IdleCallers_copy(PyObject *self, PyObject *unused)
{
    IdleCallers *idle = (IdleCallers *)self;
    Py_ssize_t count, place;
    PyObject *list, **callers;
    (void)unused;
    gt_lock(&idle->lock);
    count = idle->count;
    callers = PyMem_Malloc(((size_t)count + 1) * sizeof *callers);
    for (place = 0; callers != NULL && place < count; place++) {
        callers[place] = (PyObject *)idle->callers[place];
        Py_INCREF(callers[place]);
    }
    gt_unlock(&idle->lock);
    if (callers == NULL)
        return PyErr_NoMemory();
    list = PyList_New(count); /* may collect garbage, which may run any Python code: the copy is made by then */
    for (place = 0; place < count; place++)
        if (list != NULL)
            PyList_SetItem(list, place, callers[place]); /* takes the reference over */
        else
            Py_DECREF(callers[place]);
    PyMem_Free(callers);
    return list;
}

/* IdleCallers(cache, postponed, stack, idle_seconds, memory, shared); an object can be initialised only once. */
static int IdleCallers_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    PyObject *cache, *postponed;
    Py_ssize_t stack;
    double idle_seconds;
    unsigned long long memory, shared;
    IdleCallers *self = (IdleCallers *)object;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OOndKK:IdleCallers", &cache, &postponed, &stack, &idle_seconds, &memory, &shared))
        return -1;
    if (self->cache != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "an IdleCallers can be initialised only once");
        return -1;
    }
    Py_INCREF(cache);
    Py_INCREF(postponed);
    self->cache = cache;
    self->postponed = postponed;
    self->stack = stack;
    self->idle_seconds = idle_seconds;
    self->memory = (const char *)(uintptr_t)memory;
    self->shared = (const void *)(uintptr_t)shared;
    return 0;
}

/* Without the lock: all other threads stand still, and none of them stops while it holds that (fast.h). */
static int IdleCallers_traverse(PyObject *self, visitproc visit, void *arg)
{
    IdleCallers *idle = (IdleCallers *)self;
    Py_ssize_t place;
    for (place = 0; place < idle->count; place++)
        Py_VISIT((PyObject *)idle->callers[place]);
    Py_VISIT(idle->cache);
    Py_VISIT(idle->postponed);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int IdleCallers_clear(PyObject *self)
{
    IdleCallers *idle = (IdleCallers *)self;
    Caller **callers;
    Py_ssize_t count;
    gt_lock(&idle->lock);
    callers = idle->callers;
    count = idle->count;
    idle->callers = NULL;
    idle->count = idle->capacity = 0;
    idle->open = 0;
    gt_unlock(&idle->lock);
    while (count > 0)
        Py_DECREF((PyObject *)callers[--count]);
    PyMem_Free(callers);
    Py_CLEAR(idle->cache);
    Py_CLEAR(idle->postponed);
    return 0;
}

static void IdleCallers_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    IdleCallers_clear(self);
    gt_free_object(self);
}

static PyObject *get_open(PyObject *self, void *unused)
{
    IdleCallers *idle = (IdleCallers *)self;
    int open;
    (void)unused;
    gt_lock(&idle->lock);
    open = idle->open;
    gt_unlock(&idle->lock);
    return PyBool_FromLong(open);
}

static int set_open(PyObject *self, PyObject *value, void *unused)
{
    IdleCallers *idle = (IdleCallers *)self;
    (void)unused;
    if (value != Py_True && value != Py_False) {
        PyErr_SetString(PyExc_TypeError, "IdleCallers.open is a bool");
        return -1;
    }
    gt_lock(&idle->lock);
    idle->open = value == Py_True;
    gt_unlock(&idle->lock);
    return 0;
}

/* `offset`: of an int in an IdleCallers. */
static PyObject *get_int(PyObject *self, void *offset)
{
    return PyLong_FromLong(gt_load((int *)((char *)self + (uintptr_t)offset)));
}

static int set_int(PyObject *self, PyObject *value, void *offset)
{
    long number = value == NULL ? -1 : PyLong_AsLong(value);
    if (number < 0 || number > INT32_MAX) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "IdleCallers counts from 0");
        return -1;
    }
    gt_store((int *)((char *)self + (uintptr_t)offset), (int)number);
    return 0;
}

static PyGetSetDef IdleCallers_getset[] = {
    {"open", get_open, set_open, "Whether the app is running and accepts calls.", NULL},
    {"waiting", get_int, set_int, "How many threads wait for a caller.", (void *)offsetof(IdleCallers, waiting)},
    {"passed", get_int, set_int,
     "How many of them were woken before without getting one, and may not be overtaken again.",
     (void *)offsetof(IdleCallers, passed)},
    {"over", get_int, set_int, "Whether there are more callers than the limit.", (void *)offsetof(IdleCallers, over)},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyMethodDef IdleCallers_methods[] = {
    {"append", IdleCallers_append, METH_O, "append(caller)\n\nPut a caller back; it is the next to be taken."},
    {"appendleft", IdleCallers_appendleft, METH_O,
     "appendleft(caller)\n\nPut a caller back; it is the last to be taken."},
    {"copy", IdleCallers_copy, METH_NOARGS, "copy()\n\nThe callers as a list, the oldest first."},
    {"pop", IdleCallers_pop, METH_NOARGS,
     "pop()\n\nTake the caller that was put back last. IndexError if there is none."},
    {"popleft", IdleCallers_popleft, METH_NOARGS,
     "popleft()\n\nTake the caller that was put back first. IndexError if there is none."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot IdleCallers_slots[] = {
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, IdleCallers_init},
    {Py_tp_dealloc, IdleCallers_dealloc},
    {Py_tp_traverse, IdleCallers_traverse},
    {Py_tp_clear, IdleCallers_clear},
    {Py_tp_getset, IdleCallers_getset},
    {Py_tp_methods, IdleCallers_methods},
    {Py_sq_length, IdleCallers_length},
    {Py_sq_item, IdleCallers_item},
    {Py_tp_doc, "The idle callers, last in, first out, and whether new calls may take one."},
    {0, NULL},
};
static PyType_Spec IdleCallers_spec = {
    "gothreads._fast.IdleCallers", sizeof(IdleCallers), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE |
    Py_TPFLAGS_HAVE_GC, IdleCallers_slots,
};

int gt_add_callers(PyObject *module)
{
    if (gt_add_type(module, &Slot_spec, "Slot") == NULL
        || (Caller_type = gt_add_type(module, &Caller_spec, "Caller")) == NULL
        || (gt_idle_callers_type = gt_add_type(module, &IdleCallers_spec, "IdleCallers")) == NULL)
        return -1;
    return 0;
}
