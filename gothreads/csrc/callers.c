/* A caller's slot, a caller, and the idle callers, with fields that C calls can use without running Python code. */

#include "fast.h"

static PyTypeObject *Caller_Type;
PyTypeObject *Rest_Type;

static PyMemberDef Slot_members[] = {
    {"address", T_UINT, offsetof(Slot, address), 0, "Where it is in the module; 0: it has not been opened."},
    {"requests", T_LONGLONG, offsetof(Slot, requests), 0, "Begun since it was opened."},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot Slot_slots[] = {
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, free_object},
    {Py_tp_members, Slot_members},
    {Py_tp_doc, "Where a caller's slot is."},
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
    free_object(self);
}

static PyMemberDef Caller_members[] = {
    {"functions", T_OBJECT_EX, offsetof(Caller, functions), READONLY, "Functions of the instance, by name."},
    {"slot", T_OBJECT_EX, offsetof(Caller, slot), 0, "For bytes between the host and Go."},
    {"since", T_DOUBLE, offsetof(Caller, since), 0, "When it was taken, or put back, in seconds of the monotonic clock."},
    {"calls", T_LONGLONG, offsetof(Caller, calls), 0, "How many it has made."},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot Caller_slots[] = {
    {Py_tp_new, Caller_new},
    {Py_tp_dealloc, Caller_dealloc},
    {Py_tp_traverse, Caller_traverse},
    {Py_tp_clear, Caller_clear},
    {Py_tp_members, Caller_members},
    {Py_tp_doc, "One caller. Used by one thread at a time."},
    {0, NULL},
};
static PyType_Spec Caller_spec = {
    "gothreads._fast.Caller", sizeof(Caller), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, Caller_slots,
};

int Rest_push(Rest *self, Caller *caller)
{
    if (UNLIKELY(self->count == self->room)) {
        Py_ssize_t more = self->room ? self->room * 2 : 64;
        Caller **grown = PyMem_Realloc(self->callers, (size_t)more * sizeof *grown);
        if (grown == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->callers = grown;
        self->room = more;
    }
    self->callers[self->count++] = caller;
    return 0;
}

static PyObject *Rest_append(PyObject *self, PyObject *caller)
{
    if (!PyObject_TypeCheck(caller, Caller_Type)) {
        PyErr_SetString(PyExc_TypeError, "not a caller");
        return NULL;
    }
    Py_INCREF(caller);
    if (Rest_push((Rest *)self, (Caller *)caller)) {
        Py_DECREF(caller);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *Rest_appendleft(PyObject *self, PyObject *caller)
{
    Rest *rest = (Rest *)self;
    PyObject *done = Rest_append(self, caller);
    if (done == NULL)
        return NULL;
    memmove(rest->callers + 1, rest->callers, (size_t)(rest->count - 1) * sizeof *rest->callers);
    rest->callers[0] = (Caller *)caller;
    return done;
}

static PyObject *Rest_pop(PyObject *self, PyObject *unused)
{
    Rest *rest = (Rest *)self;
    (void)unused;
    if (rest->count == 0) {
        PyErr_SetString(PyExc_IndexError, "no caller is at rest");
        return NULL;
    }
    return (PyObject *)rest->callers[--rest->count];
}

static PyObject *Rest_popleft(PyObject *self, PyObject *unused)
{
    Rest *rest = (Rest *)self;
    PyObject *oldest;
    (void)unused;
    if (rest->count == 0) {
        PyErr_SetString(PyExc_IndexError, "no caller is at rest");
        return NULL;
    }
    oldest = (PyObject *)rest->callers[0];
    rest->count--;
    memmove(rest->callers, rest->callers + 1, (size_t)rest->count * sizeof *rest->callers);
    return oldest;
}

static Py_ssize_t Rest_length(PyObject *self)
{
    return ((Rest *)self)->count;
}

static PyObject *Rest_item(PyObject *self, Py_ssize_t place)
{
    Rest *rest = (Rest *)self;
    if (place < 0 || place >= rest->count) {
        PyErr_SetString(PyExc_IndexError, "no caller is at rest there");
        return NULL;
    }
    Py_INCREF((PyObject *)rest->callers[place]);
    return (PyObject *)rest->callers[place];
}

/* Rest(cache, around, stack, idle_seconds, memory, shared); an object can be initialised only once. */
static int Rest_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    PyObject *cache, *around;
    Py_ssize_t stack;
    double idle_seconds;
    unsigned long long memory, shared;
    Rest *self = (Rest *)object;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OOndKK:Rest", &cache, &around, &stack, &idle_seconds, &memory, &shared))
        return -1;
    if (self->cache != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "it has been made already");
        return -1;
    }
    Py_INCREF(cache);
    Py_INCREF(around);
    self->cache = cache;
    self->around = around;
    self->stack = stack;
    self->idle_seconds = idle_seconds;
    self->memory = (const char *)(uintptr_t)memory;
    self->shared = (const void *)(uintptr_t)shared;
    return 0;
}

static int Rest_traverse(PyObject *self, visitproc visit, void *arg)
{
    Rest *rest = (Rest *)self;
    Py_ssize_t place;
    for (place = 0; place < rest->count; place++)
        Py_VISIT((PyObject *)rest->callers[place]);
    Py_VISIT(rest->cache);
    Py_VISIT(rest->around);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int Rest_clear(PyObject *self)
{
    Rest *rest = (Rest *)self;
    Caller **callers = rest->callers;
    Py_ssize_t count = rest->count;
    rest->callers = NULL;
    rest->count = rest->room = 0;
    rest->open = 0;
    while (count > 0)
        Py_DECREF((PyObject *)callers[--count]);
    PyMem_Free(callers);
    Py_CLEAR(rest->cache);
    Py_CLEAR(rest->around);
    return 0;
}

static void Rest_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Rest_clear(self);
    free_object(self);
}

static PyMemberDef Rest_members[] = {
    {"open", T_BOOL, offsetof(Rest, open), 0, "Whether the app runs, and takes calls."},
    {"waiting", T_INT, offsetof(Rest, waiting), 0, "Threads that wait for a caller."},
    {"passed", T_INT, offsetof(Rest, passed), 0, "Those of them that were woken before, and that nobody may overtake any more."},
    {"over", T_INT, offsetof(Rest, over), 0, "Whether there are more callers than the limit."},
    {NULL, 0, 0, 0, NULL},
};
static PyMethodDef Rest_methods[] = {
    {"append", Rest_append, METH_O, "Put one back."},
    {"appendleft", Rest_appendleft, METH_O, "Put one at the bottom."},
    {"pop", Rest_pop, METH_NOARGS, "Take the last one; IndexError."},
    {"popleft", Rest_popleft, METH_NOARGS, "Take the oldest; IndexError."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot Rest_slots[] = {
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, Rest_init},
    {Py_tp_dealloc, Rest_dealloc},
    {Py_tp_traverse, Rest_traverse},
    {Py_tp_clear, Rest_clear},
    {Py_tp_members, Rest_members},
    {Py_tp_methods, Rest_methods},
    {Py_sq_length, Rest_length},
    {Py_sq_item, Rest_item},
    {Py_tp_doc, "The callers at rest, last in, first out; and the door to them."},
    {0, NULL},
};
static PyType_Spec Rest_spec = {
    "gothreads._fast.Rest", sizeof(Rest), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, Rest_slots,
};

int add_callers(PyObject *module)
{
    if (add_type(module, &Slot_spec, "Slot") == NULL || (Caller_Type = add_type(module, &Caller_spec, "Caller")) == NULL
        || (Rest_Type = add_type(module, &Rest_spec, "Rest")) == NULL)
        return -1;
    return 0;
}
