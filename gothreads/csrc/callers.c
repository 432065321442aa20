/* A caller's slot, a caller, and the idle callers, with fields that C can use without running Python code. The Python
   versions are in engine/callers.py. */

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

int gt_push_idle(IdleCallers *idle, Caller *caller)
{
    if (UNLIKELY(idle->count == idle->capacity)) {
        Py_ssize_t more = idle->capacity ? idle->capacity * 2 : 64;
        Caller **grown = PyMem_Realloc(idle->callers, (size_t)more * sizeof *grown);
        if (grown == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        idle->callers = grown;
        idle->capacity = more;
    }
    idle->callers[idle->count++] = caller;
    return 0;
}

static PyObject *IdleCallers_append(PyObject *self, PyObject *caller)
{
    if (!PyObject_TypeCheck(caller, Caller_type)) {
        PyErr_Format(PyExc_TypeError, "a Caller is needed, not %R", (PyObject *)Py_TYPE(caller));
        return NULL;
    }
    Py_INCREF(caller);
    if (gt_push_idle((IdleCallers *)self, (Caller *)caller)) {
        Py_DECREF(caller);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *IdleCallers_appendleft(PyObject *self, PyObject *caller)
{
    IdleCallers *idle = (IdleCallers *)self;
    PyObject *done = IdleCallers_append(self, caller);
    if (done == NULL)
        return NULL;
    memmove(idle->callers + 1, idle->callers, (size_t)(idle->count - 1) * sizeof *idle->callers);
    idle->callers[0] = (Caller *)caller;
    return done;
}

static PyObject *IdleCallers_pop(PyObject *self, PyObject *unused)
{
    IdleCallers *idle = (IdleCallers *)self;
    (void)unused;
    if (idle->count == 0) {
        PyErr_SetString(PyExc_IndexError, "there is no idle caller");
        return NULL;
    }
    return (PyObject *)idle->callers[--idle->count];
}

static PyObject *IdleCallers_popleft(PyObject *self, PyObject *unused)
{
    IdleCallers *idle = (IdleCallers *)self;
    PyObject *oldest;
    (void)unused;
    if (idle->count == 0) {
        PyErr_SetString(PyExc_IndexError, "there is no idle caller");
        return NULL;
    }
    oldest = (PyObject *)idle->callers[0];
    idle->count--;
    memmove(idle->callers, idle->callers + 1, (size_t)idle->count * sizeof *idle->callers);
    return oldest;
}

static Py_ssize_t IdleCallers_length(PyObject *self)
{
    return ((IdleCallers *)self)->count;
}

static PyObject *IdleCallers_item(PyObject *self, Py_ssize_t place)
{
    IdleCallers *idle = (IdleCallers *)self;
    if (place < 0 || place >= idle->count) {
        PyErr_SetString(PyExc_IndexError, "no idle caller has this index");
        return NULL;
    }
    Py_INCREF((PyObject *)idle->callers[place]);
    return (PyObject *)idle->callers[place];
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
    Caller **callers = idle->callers;
    Py_ssize_t count = idle->count;
    idle->callers = NULL;
    idle->count = idle->capacity = 0;
    idle->open = 0;
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

static PyMemberDef IdleCallers_members[] = {
    {"open", T_BOOL, offsetof(IdleCallers, open), 0, "Whether the app is running and accepts calls."},
    {"waiting", T_INT, offsetof(IdleCallers, waiting), 0, "How many threads wait for a caller."},
    {"passed", T_INT, offsetof(IdleCallers, passed), 0,
     "How many of them were woken before without getting one, and may not be overtaken again."},
    {"over", T_INT, offsetof(IdleCallers, over), 0, "Whether there are more callers than the limit."},
    {NULL, 0, 0, 0, NULL},
};
static PyMethodDef IdleCallers_methods[] = {
    {"append", IdleCallers_append, METH_O, "append(caller)\n\nPut a caller back; it is the next to be taken."},
    {"appendleft", IdleCallers_appendleft, METH_O,
     "appendleft(caller)\n\nPut a caller back; it is the last to be taken."},
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
    {Py_tp_members, IdleCallers_members},
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
