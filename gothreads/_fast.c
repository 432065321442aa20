/* Calls between Python and a module's instances, in C: the same as host/ffi.py does through ctypes, for a tenth of the time.

   Optional: without it everything works, behind the same interface (host/fast.py). What is unusual is left to Python in any case: an argument
   that is not simply what the signature says, an app that does not run, a cache without an idle caller. So the rules, and the messages, stand
   in one place.

   All state of this module is guarded by Python's lock (the GIL), which is let go of only while a module's code runs, and while many bytes are
   copied. wasmtime's functions come as addresses (`bind`): wasmtime-py has loaded them already.

   Python's stable ABI, as of 3.11; vectorcall, which became part of it in 3.12, is in 3.11 under the same number. */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#if !defined(Py_TPFLAGS_HAVE_VECTORCALL)
#define Py_TPFLAGS_HAVE_VECTORCALL (1UL << 11)
typedef PyObject *(*vectorcallfunc)(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames);
PyAPI_FUNC(PyObject *) PyVectorcall_Call(PyObject *callable, PyObject *tuple, PyObject *dict);
PyAPI_FUNC(PyObject *) PyObject_Vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames);
#endif
#define VECTORCALL_OFFSET ((size_t)1 << (8 * sizeof(size_t) - 1)) /* PY_VECTORCALL_ARGUMENTS_OFFSET */

#if defined(__GNUC__)
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define THREAD_LOCAL __thread
#else
#define LIKELY(x) (x)
#define UNLIKELY(x) (x)
#define THREAD_LOCAL _Thread_local
#endif

/* wasmtime_val_raw_t. */
typedef union {
    int32_t i32;
    uint32_t u32;
    int64_t i64;
    uint64_t u64;
    float f32;
    double f64;
    uint8_t v128[16];
} Value;

/* More values than any signature that is called has: wasm/abi.py refuses others. */
#define MOST_VALUES 1000
/* sizeof(wasmtime_func_t) is 16 in wasmtime 50; Python says what it is, and this is the most that is stored. */
#define FUNC_ROOM 32

static void *(*func_call_unchecked)(void *context, const void *func, Value *values, size_t count, void **trap);
static void *(*linker_define_func_unchecked)(void *linker, const char *module, size_t module_size, const char *name, size_t name_size,
                                             const void *type, void *(*callback)(void *, void *, Value *, size_t), void *data,
                                             void (*finalizer)(void *));
static void *(*trap_new)(const char *message, size_t size);
static size_t (*sharedmemory_data_size)(const void *memory);

static PyObject *getframe;      /* sys._getframe */
static PyObject *try_frames;    /* stack: a function that uses so many frames */
static PyObject *describe;      /* ffi: (error's address, trap's address) -> exception */
static PyObject *main_calls;    /* interrupt: the list of calls that the main thread is in */
static PyObject *is_enabled;    /* faulthandler.is_enabled */
static PyObject *name_release, *name_trapped, *name_buffer, *name_request, *name_answer;
static unsigned long main_thread;
static int interrupted;             /* interrupt: Ctrl-C came while the main thread was in a call */
static unsigned long long serial;   /* how many calls of C's the main thread has begun */
static double next_look;            /* interrupt: when the main thread's next call is to look after the signal handlers */
static int faulthandler_seen = -1;  /* signals: whether faulthandler was on when it was looked at last */

/* How deep in WebAssembly the thread is; how much of it it has room for, in bytes (0: not known); whether it is the main one (0: not known). */
static THREAD_LOCAL Py_ssize_t depth;
static THREAD_LOCAL int quick; /* it is in a call of C's */
static THREAD_LOCAL Py_ssize_t room;
static THREAD_LOCAL signed char is_main;

static int on_main_thread(void)
{
    if (UNLIKELY(!is_main))
        is_main = PyThread_get_thread_ident() == main_thread ? 1 : -1;
    return is_main > 0;
}

/* time.monotonic(), a few milliseconds behind at the most: a tenth of its price. */
static double coarse_now(void)
{
    struct timespec now;
#ifdef CLOCK_MONOTONIC_COARSE
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
#else
    clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- values: a letter each, as in module struct: i I q Q f d; and ? for a bool ---- */

/* 1: it is in *value. 0: it is not simply that; no exception is set. */
static int from_python(char kind, PyObject *object, Value *value)
{
    int overflow;
    long long number;
    switch (kind) {
    case 'i':
    case 'I':
    case 'q':
        if (!PyLong_CheckExact(object))
            return 0;
        number = PyLong_AsLongLongAndOverflow(object, &overflow);
        if (overflow)
            return 0;
        if (kind == 'q') {
            value->i64 = number;
            return 1;
        }
        if (kind == 'i' ? number < INT32_MIN || number > INT32_MAX : number < 0 || number > UINT32_MAX)
            return 0;
        value->u32 = (uint32_t)number;
        return 1;
    case 'Q':
        if (!PyLong_CheckExact(object))
            return 0;
        value->u64 = PyLong_AsUnsignedLongLong(object);
        if (value->u64 == (uint64_t)-1 && PyErr_Occurred()) {
            PyErr_Clear();
            return 0;
        }
        return 1;
    case 'd':
        if (!PyFloat_CheckExact(object))
            return 0;
        value->f64 = PyFloat_AsDouble(object);
        return 1;
    case 'f': {
        double exact;
        if (!PyFloat_CheckExact(object))
            return 0;
        exact = PyFloat_AsDouble(object);
        if (exact - exact == 0.0 && (exact > 3.4028234663852886e38 || exact < -3.4028234663852886e38)) /* finite, perhaps not so here */
            return 0;
        value->f32 = (float)exact;
        return 1;
    }
    case '?':
        if (object != Py_True && object != Py_False)
            return 0;
        value->i32 = object == Py_True;
        return 1;
    default:
        return 0;
    }
}

/* A number that is already what the module gets: of the right size, whatever its sign. */
static int raw_from_python(char kind, PyObject *object, Value *value)
{
    switch (kind) {
    case 'f':
    case 'd': {
        double number = PyFloat_AsDouble(object);
        if (number == -1.0 && PyErr_Occurred())
            return 0;
        if (kind == 'f')
            value->f32 = (float)number;
        else
            value->f64 = number;
        return 1;
    }
    case 'q':
    case 'Q': {
        uint64_t number = PyLong_AsUnsignedLongLongMask(object);
        if (number == (uint64_t)-1 && PyErr_Occurred())
            return 0;
        value->u64 = number;
        return 1;
    }
    default: {
        unsigned long number = PyLong_AsUnsignedLongMask(object);
        if (number == (unsigned long)-1 && PyErr_Occurred())
            return 0;
        value->u64 = 0;
        value->u32 = (uint32_t)number;
        return 1;
    }
    }
}

static PyObject *to_python(char kind, const Value *value)
{
    switch (kind) {
    case 'i':
        return PyLong_FromLong(value->i32);
    case 'I':
        return PyLong_FromUnsignedLong(value->u32);
    case 'q':
        return PyLong_FromLongLong(value->i64);
    case 'Q':
        return PyLong_FromUnsignedLongLong(value->u64);
    case 'f':
        return PyFloat_FromDouble(value->f32);
    case 'd':
        return PyFloat_FromDouble(value->f64);
    case '?':
        return PyBool_FromLong(value->i32 != 0);
    default:
        Py_INCREF(Py_None);
        return Py_None;
    }
}

/* Copies letters; -1 with an exception when they are none. `result` may be "". */
static int letters(PyObject *text, const char *allowed, char **copy, Py_ssize_t *count)
{
    Py_ssize_t size, place;
    const char *given = PyUnicode_AsUTF8AndSize(text, &size);
    if (given == NULL)
        return -1;
    for (place = 0; place < size; place++)
        if (given[place] == 0 || strchr(allowed, given[place]) == NULL)
            break;
    if (place < size || size > MOST_VALUES) {
        PyErr_Format(PyExc_ValueError, "not letters of values: %R", text);
        return -1;
    }
    *copy = PyMem_Malloc((size_t)size + 1);
    if (*copy == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(*copy, given, (size_t)size + 1);
    *count = size;
    return 0;
}

/* ---- Function: an exported function of one instance ---- */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    void *context;
    char *params;
    Py_ssize_t count; /* of parameters */
    char result;      /* 0: none */
    uint64_t func[FUNC_ROOM / 8];
} Function;

static PyTypeObject *Function_Type, *Slot_Type, *Caller_Type, *Rest_Type, *Export_Type;

/* Runs it with Python's lock let go of. 0, or -1 with `*error` and `*trap` to be described. */
static int enter(Function *function, Value *values, void **error, void **trap)
{
    size_t count = (size_t)(function->count ? function->count : 1);
    *trap = NULL;
    Py_BEGIN_ALLOW_THREADS
    *error = func_call_unchecked(function->context, function->func, values, count, trap);
    Py_END_ALLOW_THREADS
    return LIKELY(*error == NULL && *trap == NULL) ? 0 : -1;
}

static PyObject *described(void *error, void *trap)
{
    return PyObject_CallFunction(describe, "KK", (unsigned long long)(uintptr_t)error, (unsigned long long)(uintptr_t)trap);
}

static void raise_described(void *error, void *trap)
{
    PyObject *exception = described(error, trap);
    if (exception != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
}

static PyObject *Function_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Function *function = (Function *)self;
    Py_ssize_t given = (Py_ssize_t)(nargsf & ~VECTORCALL_OFFSET), place;
    Value few[8], *values = few;
    PyObject *answer = NULL;
    void *error, *trap;
    if (given != function->count || (kwnames != NULL && PyTuple_Size(kwnames) > 0)) {
        PyErr_Format(PyExc_TypeError, "%zd values are needed, %zd given", function->count, given);
        return NULL;
    }
    if (given > 8 && (values = PyMem_Malloc((size_t)given * sizeof(Value))) == NULL)
        return PyErr_NoMemory();
    for (place = 0; place < given; place++)
        if (!raw_from_python(function->params[place], args[place], &values[place]))
            goto done;
    if (UNLIKELY(enter(function, values, &error, &trap)))
        raise_described(error, trap);
    else
        answer = to_python(function->result, values);
done:
    if (values != few)
        PyMem_Free(values);
    return answer;
}

/* Function(context, func, params, result): `func` is wasmtime's struct, as bytes. */
static PyObject *Function_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    unsigned long long context;
    const char *func, *result;
    Py_ssize_t size;
    PyObject *params;
    Function *self;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "Ky#Us:Function", &context, &func, &size, &params, &result))
        return NULL;
    if (size > FUNC_ROOM) {
        PyErr_SetString(PyExc_ValueError, "wasmtime_func_t is larger than it was");
        return NULL;
    }
    self = PyObject_New(Function, type);
    if (self == NULL)
        return NULL;
    self->vectorcall = Function_vectorcall;
    self->context = (void *)(uintptr_t)context;
    self->params = NULL;
    self->result = result[0];
    memset(self->func, 0, sizeof self->func);
    memcpy(self->func, func, (size_t)size);
    if (letters(params, "iIqQfd?", &self->params, &self->count)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void Function_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyMem_Free(((Function *)self)->params);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyMemberDef Function_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Function, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot Function_slots[] = {
    {Py_tp_new, Function_new},
    {Py_tp_dealloc, Function_dealloc},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, Function_members},
    {Py_tp_doc, "An exported function of one instance, called with raw values. One thread at a time."},
    {0, NULL},
};
static PyType_Spec Function_spec = {
    "gothreads._fast.Function", sizeof(Function), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL, Function_slots,
};

/* ---- Slot: the base of slot.Slot, with what requests in C need of it ---- */

typedef struct {
    PyObject_HEAD
    unsigned int address; /* in the module; 0: not opened yet */
    long long requests;   /* begun since it was opened; Go counts them too */
} Slot;

static PyObject *Slot_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    (void)args;
    (void)kwargs;
    return alloc(type, 0);
}

static void Slot_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMemberDef Slot_members[] = {
    {"address", T_UINT, offsetof(Slot, address), 0, "Where it is in the module; 0: it has not been opened."},
    {"requests", T_LONGLONG, offsetof(Slot, requests), 0, "Begun since it was opened."},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot Slot_slots[] = {
    {Py_tp_new, Slot_new},
    {Py_tp_dealloc, Slot_dealloc},
    {Py_tp_members, Slot_members},
    {Py_tp_doc, "Where a caller's slot is."},
    {0, NULL},
};
static PyType_Spec Slot_spec = {
    "gothreads._fast.Slot", sizeof(Slot), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, Slot_slots,
};

/* ---- Caller: the base of callback_m.CallbackM ---- */

typedef struct {
    PyObject_HEAD
    PyObject *functions; /* name -> Function */
    PyObject *slot;      /* a Slot; NULL until it is set */
    double since;        /* when it was taken, or put back, in seconds of the monotonic clock */
    long long calls;
} Caller;

static PyObject *Caller_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Caller *self = (Caller *)alloc(type, 0);
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
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    PyObject_GC_UnTrack(self);
    Caller_clear(self);
    release(self);
    Py_DECREF(type);
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

/* ---- Rest: the callers at rest, last in, first out; and the door to them ---- */

typedef struct {
    PyObject_HEAD
    Caller **callers; /* the oldest first */
    Py_ssize_t count, room;
    PyObject *cache; /* whose `release` does what is left when a caller comes back and somebody waits, or one is old */
    PyObject *around; /* interrupt.Postponed, for calls of the main thread; None: none */
    char open;        /* the app runs, and takes calls */
    int waiting, passed, over;
    Py_ssize_t stack; /* what a thread must have, in bytes */
    double idle_seconds;
    const char *memory;       /* the module's */
    const void *shared;       /* wasmtime_sharedmemory_t, which knows its size */
} Rest;

static int Rest_push(Rest *self, Caller *caller) /* takes the reference, when it is 0 */
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

/* Rest(cache, around, stack, idle_seconds, memory, shared), once. */
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
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    PyObject_GC_UnTrack(self);
    Rest_clear(self);
    release(self);
    Py_DECREF(type);
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

/* Takes a caller; NULL, without an exception, when Python should see to it. The lock is held from the look at `open` on until the caller counts
   as in use: who closes the door afterwards, and then looks whether all have left, finds it. */
static Caller *take(Rest *rest)
{
    Caller *caller;
    if (UNLIKELY(!rest->open || rest->passed || depth || room < rest->stack || !rest->count))
        return NULL;
    if (LIKELY(is_enabled != NULL)) {
        PyObject *on = PyObject_CallNoArgs(is_enabled);
        if (on == NULL) {
            PyErr_Clear();
            return NULL;
        }
        Py_DECREF(on);
        if (UNLIKELY((on == Py_True) != faulthandler_seen) || !rest->open || !rest->count)
            return NULL;
    }
    caller = rest->callers[--rest->count];
    caller->since = coarse_now();
    return caller;
}

/* The main thread begins a call: Ctrl-C is noted from here on. 0, or -1 when Python should see to it (no exception is set). */
static int postpone(Rest *rest)
{
    if (coarse_now() >= next_look)
        return -1;
    if (PyList_Append(main_calls, rest->around)) {
        PyErr_Clear();
        return -1;
    }
    serial++;
    return 0;
}

/* It has come back. -1 with KeyboardInterrupt when that came meanwhile. */
static int postponed(void)
{
    Py_ssize_t count = PyList_Size(main_calls);
    if (PyList_SetSlice(main_calls, count - 1, count, NULL))
        return -1;
    if (UNLIKELY(interrupted) && count == 1) {
        interrupted = 0;
        PyErr_SetNone(PyExc_KeyboardInterrupt);
        return -1;
    }
    return 0;
}

/* Puts a caller back that has returned (its reference goes with it). -1 with an exception. */
static int put_back(Rest *rest, Caller *caller)
{
    double now = coarse_now();
    if (LIKELY(!rest->waiting && !rest->over && (rest->count == 0 || rest->callers[0]->since >= now - rest->idle_seconds))) {
        caller->calls++;
        caller->since = now;
        if (LIKELY(Rest_push(rest, caller) == 0))
            return 0;
    } else {
        PyObject *done = rest->cache ? PyObject_CallMethodObjArgs(rest->cache, name_release, (PyObject *)caller, NULL) : NULL;
        if (done != NULL) {
            Py_DECREF(done);
            Py_DECREF((PyObject *)caller);
            return 0;
        }
    }
    Py_DECREF((PyObject *)caller);
    return -1;
}

/* A call of one or more functions, in one caller. */
typedef struct {
    Rest *rest;
    Caller *caller;
    Function *functions[2]; /* borrowed of the caller, out of which nothing is ever taken */
    int on_main, trapped;
} Call;

/* Takes a caller that has all these functions. -1, without an exception, when Python should see to it. */
static int begin(Call *call, Rest *rest, PyObject **names, int count)
{
    Caller *caller = take(rest);
    int place;
    if (UNLIKELY(caller == NULL))
        return -1;
    for (place = 0; place < count; place++)
        if (UNLIKELY((call->functions[place] = (Function *)PyDict_GetItemWithError(caller->functions, names[place])) == NULL))
            goto back;
    call->on_main = on_main_thread();
    if (call->on_main && UNLIKELY(postpone(rest)))
        goto back;
    call->rest = rest;
    call->caller = caller;
    call->trapped = 0;
    depth++;
    quick = 1;
    return 0;
back:
    PyErr_Clear();
    rest->count++; /* nobody has taken its place: the lock was held */
    return -1;
}

/* Runs one of its functions. -1 when it did not return: then what that has come to is raised, and the caller is not ours any more. */
static int run(Call *call, int place, Value *values)
{
    void *error, *trap;
    PyObject *exception;
    if (LIKELY(enter(call->functions[place], values, &error, &trap) == 0))
        return 0;
    /* The end begins before the caller goes back: callback_m.py, invariant 3. */
    call->trapped = 1;
    exception = described(error, trap);
    if (exception != NULL && call->rest->cache != NULL)
        Py_XDECREF(PyObject_CallMethodObjArgs(call->rest->cache, name_trapped, (PyObject *)call->caller, exception, NULL));
    Py_XDECREF(exception);
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_SystemError, "a call trapped, and nobody said so");
    return -1;
}

/* Puts the caller back, and lets Ctrl-C go before what the call came to: `answer`, which it takes over, or the exception that is set. */
static PyObject *end(Call *call, PyObject *answer)
{
    PyObject *type, *value, *traceback;
    quick = 0;
    depth--;
    if (LIKELY(answer != NULL && !call->on_main)) {
        if (LIKELY(put_back(call->rest, call->caller) == 0))
            return answer;
        Py_DECREF(answer);
        return NULL;
    }
    PyErr_Fetch(&type, &value, &traceback);
    if (call->trapped)
        Py_DECREF((PyObject *)call->caller);
    else if (UNLIKELY(put_back(call->rest, call->caller)))
        goto failed;
    if (call->on_main && UNLIKELY(postponed()))
        goto failed;
    if (UNLIKELY(answer == NULL))
        PyErr_Restore(type, value, traceback);
    return answer;
failed:
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    Py_XDECREF(answer);
    return NULL;
}

/* ---- Export: what `app.exports.add` is ---- */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *slow; /* exports.Function, which does everything that this does not */
    PyObject *rest;
    PyObject *name;
    char *params;
    Py_ssize_t count;
    char result;
} Export;

static PyObject *Export_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Export *export = (Export *)self;
    Rest *rest = (Rest *)export->rest;
    Py_ssize_t place;
    Value values[8];
    PyObject *answer;
    Call call;

    if (UNLIKELY(kwnames != NULL || (Py_ssize_t)(nargsf & ~VECTORCALL_OFFSET) != export->count))
        goto slow;
    for (place = 0; place < export->count; place++)
        if (UNLIKELY(!from_python(export->params[place], args[place], &values[place])))
            goto slow;
    if (begin(&call, rest, &export->name, 1))
        goto slow;
    if (LIKELY(run(&call, 0, values) == 0))
        answer = to_python(export->result, values);
    else
        answer = NULL;
    return end(&call, answer);
slow:
    return PyObject_Vectorcall(export->slow, args, nargsf & ~VECTORCALL_OFFSET, kwnames);
}

/* Export(slow, rest, name, params, result) */
static PyObject *Export_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    PyObject *slow, *rest, *name, *params;
    const char *result;
    Export *self;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OO!UUs:Export", &slow, Rest_Type, &rest, &name, &params, &result))
        return NULL;
    self = (Export *)alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->vectorcall = Export_vectorcall;
    Py_INCREF(slow);
    Py_INCREF(rest);
    Py_INCREF(name);
    PyUnicode_InternInPlace(&name);
    self->slow = slow;
    self->rest = rest;
    self->name = name;
    self->result = result[0];
    if (letters(params, "iIqQfd?", &self->params, &self->count) || self->count > 8) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "more values than are fast");
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int Export_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((Export *)self)->slow);
    Py_VISIT(((Export *)self)->rest);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void Export_dealloc(PyObject *self)
{
    Export *export = (Export *)self;
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    PyObject_GC_UnTrack(self);
    PyMem_Free(export->params);
    Py_XDECREF(export->slow);
    Py_XDECREF(export->rest);
    Py_XDECREF(export->name);
    release(self);
    Py_DECREF(type);
}

/* Everything but a call is that of the function behind it: its class, signature, documentation, `bytes`. */
static PyObject *Export_getattro(PyObject *self, PyObject *name)
{
    return PyObject_GetAttr(((Export *)self)->slow, name);
}

static PyObject *Export_repr(PyObject *self)
{
    return PyObject_Repr(((Export *)self)->slow);
}

static PyMemberDef Export_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Export, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot Export_slots[] = {
    {Py_tp_new, Export_new},
    {Py_tp_dealloc, Export_dealloc},
    {Py_tp_traverse, Export_traverse},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_getattro, Export_getattro},
    {Py_tp_repr, Export_repr},
    {Py_tp_members, Export_members},
    {Py_tp_doc, "An export, to be called from any thread."},
    {0, NULL},
};
static PyType_Spec Export_spec = {
    "gothreads._fast.Export", sizeof(Export), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_HAVE_GC, Export_slots,
};

/* ---- requests: bytes in, bytes out (slot.py, and the guest's slot_wasip1.go, which has the rules) ---- */

/* Copies of more bytes than this let others run meanwhile. */
#define MUCH (32 << 10)
/* slot.KEEP and slot.LARGEST */
#define KEEP (64 << 10)
#define LARGEST (((uint32_t)1 << 31) - (1 << 16))

static void copy(char *to, const char *from, size_t size)
{
    if (size <= MUCH) {
        memcpy(to, from, size);
    } else {
        Py_BEGIN_ALLOW_THREADS
        memcpy(to, from, size);
        Py_END_ALLOW_THREADS
    }
}

/* Whether the bytes lie in the memory, which never shrinks. */
static int within(const Rest *rest, uint32_t address, size_t size)
{
    return (uint64_t)address + size <= sharedmemory_data_size(rest->shared);
}

/* request(rest, handler, payload) -> the answer; None when Python should see to it all. */
static PyObject *request(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    PyObject *names[2] = {name_buffer, name_request}, *answer = NULL;
    const char *handler;
    char *payload;
    Py_ssize_t handler_size, size;
    Value values[2];
    uint32_t header[3]; /* status, address, length */
    Slot *slot;
    Rest *rest;
    Call call;
    (void)self;
    if (count != 3 || !PyObject_TypeCheck(args[0], Rest_Type)) {
        PyErr_SetString(PyExc_TypeError, "request(rest, handler, payload)");
        return NULL;
    }
    rest = (Rest *)args[0];
    if (!PyUnicode_CheckExact(args[1]) || !PyBytes_CheckExact(args[2]))
        Py_RETURN_NONE;
    if ((handler = PyUnicode_AsUTF8AndSize(args[1], &handler_size)) == NULL) { /* half of a surrogate pair */
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    PyBytes_AsStringAndSize(args[2], &payload, &size);
    if (handler_size > MUCH || size > (Py_ssize_t)LARGEST - MUCH || begin(&call, rest, names, 2))
        Py_RETURN_NONE;
    slot = (Slot *)call.caller->slot;
    if (slot == NULL || !slot->address) {
        Py_INCREF(Py_None);
        return end(&call, Py_None);
    }
    values[0].u64 = slot->address;
    values[1].u64 = (uint64_t)(handler_size + size);
    if (run(&call, 0, values))
        goto done;
    if (!within(rest, values[0].u32, (size_t)(handler_size + size))) {
        /* Python finds it so too, and says it. */
        Py_INCREF(Py_None);
        answer = Py_None;
        goto done;
    }
    memcpy((char *)rest->memory + values[0].u32, handler, (size_t)handler_size);
    copy((char *)rest->memory + values[0].u32 + handler_size, payload, (size_t)size);
    slot->requests++;
    values[0].u64 = slot->address;
    values[1].u64 = (uint64_t)handler_size;
    if (run(&call, 1, values))
        goto done;
    if (within(rest, slot->address, sizeof header)) {
        memcpy(header, rest->memory + slot->address, sizeof header); /* copied first, then believed: the module may change it at any time */
        if (LIKELY(header[0] == 0 && header[2] <= KEEP && within(rest, header[1], header[2]))) {
            answer = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)header[2]);
            if (answer != NULL)
                copy(PyBytes_AsString(answer), rest->memory + header[1], header[2]);
            goto done;
        }
    }
    answer = PyObject_CallMethodObjArgs((PyObject *)slot, name_answer, args[1], NULL);
done:
    return end(&call, answer);
}

/* ---- host functions ---- */

typedef struct {
    PyObject_HEAD
    PyObject *implementation, *failed;
    char *params;
    Py_ssize_t count;
    char result;
} HostFunction;

static PyTypeObject *HostFunction_Type;

/* The trap that answers for the exception that is set. */
static void *trap_of_exception(HostFunction *host)
{
    PyObject *type, *value, *traceback, *message = NULL, *name = NULL;
    const char *text = NULL;
    Py_ssize_t size = 0;
    void *trap;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value != NULL) {
        if (traceback != NULL)
            PyException_SetTraceback(value, traceback);
        message = PyObject_CallFunctionObjArgs(host->failed, value, NULL);
        if (message != NULL)
            text = PyUnicode_AsUTF8AndSize(message, &size);
        if (text == NULL) {
            PyErr_Clear();
            name = PyType_GetName(Py_TYPE(value));
            if (name != NULL)
                text = PyUnicode_AsUTF8AndSize(name, &size);
            PyErr_Clear();
        }
    }
    trap = text != NULL ? trap_new(text, (size_t)size) : trap_new("a host function failed", 22);
    Py_XDECREF(message);
    Py_XDECREF(name);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return trap;
}

/* Calls of Python's look whether its stack has room for what host functions need (stack.check_python_stack). Calls of C's do not, so it is seen to
   here, where it is needed: the limit is raised meanwhile, by so many frames. */
#define FRAMES 150

static int make_room(void)
{
    PyObject *found = PyObject_CallFunction(getframe, "i", Py_GetRecursionLimit() / 3);
    if (LIKELY(found == NULL)) { /* there are fewer */
        PyErr_Clear();
        return 0;
    }
    Py_DECREF(found);
    found = PyObject_CallFunction(try_frames, "i", FRAMES);
    if (found != NULL) {
        Py_DECREF(found);
        return 0;
    }
    PyErr_Clear();
    Py_SetRecursionLimit(Py_GetRecursionLimit() + FRAMES);
    return 1;
}

/* wasmtime calls this, in any thread, without Python's lock. */
static void *host_function(void *data, void *caller, Value *values, size_t count)
{
    HostFunction *host = data;
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *few[9], **args = few, *answer = NULL;
    void *trap = NULL;
    Py_ssize_t place, made = 0;
    int raised = quick && make_room();
    (void)caller;
    (void)count;
    if (host->count > 8 && (args = PyMem_Malloc((size_t)(host->count + 1) * sizeof *args)) == NULL)
        PyErr_NoMemory();
    else {
        for (place = 0; place < host->count; place++, made++) /* args[0] is for whom is called: vectorcall's manner */
            if ((args[place + 1] = to_python(host->params[place], &values[place])) == NULL)
                break;
        if (made == host->count)
            answer = PyObject_Vectorcall(host->implementation, args + 1, (size_t)host->count | VECTORCALL_OFFSET, NULL);
        for (place = 0; place < made; place++)
            Py_DECREF(args[place + 1]);
        if (answer != NULL && host->result && !raw_from_python(host->result, answer, &values[0]))
            Py_CLEAR(answer);
    }
    if (args != few)
        PyMem_Free(args);
    if (answer == NULL)
        trap = trap_of_exception(host);
    Py_XDECREF(answer);
    if (raised)
        Py_SetRecursionLimit(Py_GetRecursionLimit() - FRAMES);
    PyGILState_Release(state);
    return trap;
}

static int HostFunction_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((HostFunction *)self)->implementation);
    Py_VISIT(((HostFunction *)self)->failed);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int HostFunction_clear(PyObject *self)
{
    Py_CLEAR(((HostFunction *)self)->implementation);
    Py_CLEAR(((HostFunction *)self)->failed);
    return 0;
}

static void HostFunction_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    PyObject_GC_UnTrack(self);
    HostFunction_clear(self);
    PyMem_Free(((HostFunction *)self)->params);
    release(self);
    Py_DECREF(type);
}

static PyType_Slot HostFunction_slots[] = {
    {Py_tp_dealloc, HostFunction_dealloc},
    {Py_tp_traverse, HostFunction_traverse},
    {Py_tp_clear, HostFunction_clear},
    {Py_tp_doc, "A host function, which must live as long as the linker that it is in is used."},
    {0, NULL},
};
static PyType_Spec HostFunction_spec = {
    "gothreads._fast.HostFunction", sizeof(HostFunction), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    HostFunction_slots,
};

/* define(linker, module, name, type, params, result, implementation, failed) -> (what must live as long as the linker is used, an error's address) */
static PyObject *define(PyObject *self, PyObject *args)
{
    unsigned long long linker, type;
    const char *module, *name, *result;
    Py_ssize_t module_size, name_size;
    PyObject *params, *implementation, *failed;
    HostFunction *host;
    void *error;
    (void)self;
    if (!PyArg_ParseTuple(args, "Ks#s#KUsOO:define", &linker, &module, &module_size, &name, &name_size, &type, &params, &result, &implementation, &failed))
        return NULL;
    host = (HostFunction *)((allocfunc)PyType_GetSlot(HostFunction_Type, Py_tp_alloc))(HostFunction_Type, 0);
    if (host == NULL)
        return NULL;
    if (letters(params, "iIqQfd?", &host->params, &host->count)) {
        Py_DECREF((PyObject *)host);
        return NULL;
    }
    Py_INCREF(implementation);
    Py_INCREF(failed);
    host->implementation = implementation;
    host->failed = failed;
    host->result = result[0];
    error = linker_define_func_unchecked((void *)(uintptr_t)linker, module, (size_t)module_size, name, (size_t)name_size, (void *)(uintptr_t)type,
                                         host_function, host, NULL);
    return Py_BuildValue("NK", (PyObject *)host, (unsigned long long)(uintptr_t)error);
}

/* ---- the clock: a host function that needs no Python ---- */

typedef struct {
    PyObject_HEAD
    char *memory;
    const void *shared;
} Clock;

static PyTypeObject *Clock_Type;

/* WASI's errno. */
enum { SUCCESS = 0, EFAULT_ = 21, EINVAL_ = 28 };

/* clock_time_get(id, precision, where): wasmtime's own looks its memory up by name each time, and its monotonic clock begins anew in each store. */
static void *clock_time_get(void *data, void *caller, Value *values, size_t count)
{
    const Clock *clock = data;
    struct timespec now;
    uint64_t nanoseconds;
    uint32_t id = values[0].u32, where = values[2].u32;
    (void)caller;
    (void)count;
    if (id > 1 || clock_gettime(id == 0 ? CLOCK_REALTIME : CLOCK_MONOTONIC, &now)) {
        values[0].u64 = EINVAL_;
    } else if ((uint64_t)where + sizeof nanoseconds > sharedmemory_data_size(clock->shared)) {
        values[0].u64 = EFAULT_;
    } else {
        nanoseconds = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        memcpy(clock->memory + where, &nanoseconds, sizeof nanoseconds);
        values[0].u64 = SUCCESS;
    }
    return NULL;
}

static void Clock_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyType_Slot Clock_slots[] = {
    {Py_tp_dealloc, Clock_dealloc},
    {Py_tp_doc, "A clock for one memory, which must live as long as the linker that it is in is used."},
    {0, NULL},
};
static PyType_Spec Clock_spec = {
    "gothreads._fast.Clock", sizeof(Clock), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, Clock_slots,
};

/* define_clock(linker, module, name, type, memory, shared) -> (what must live as long as the linker is used, an error's address) */
static PyObject *define_clock(PyObject *self, PyObject *args)
{
    unsigned long long linker, type, memory, shared;
    const char *module, *name;
    Py_ssize_t module_size, name_size;
    Clock *clock;
    void *error;
    (void)self;
    if (!PyArg_ParseTuple(args, "Ks#s#KKK:define_clock", &linker, &module, &module_size, &name, &name_size, &type, &memory, &shared))
        return NULL;
    clock = PyObject_New(Clock, Clock_Type);
    if (clock == NULL)
        return NULL;
    clock->memory = (char *)(uintptr_t)memory;
    clock->shared = (const void *)(uintptr_t)shared;
    error = linker_define_func_unchecked((void *)(uintptr_t)linker, module, (size_t)module_size, name, (size_t)name_size, (void *)(uintptr_t)type,
                                         clock_time_get, clock, NULL);
    return Py_BuildValue("NK", (PyObject *)clock, (unsigned long long)(uintptr_t)error);
}

/* ---- the thread, and the main thread's calls ---- */

static PyObject *get_depth(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyLong_FromSsize_t(depth);
}

static PyObject *set_depth(PyObject *self, PyObject *value)
{
    Py_ssize_t number = PyLong_AsSsize_t(value);
    (void)self;
    if (number == -1 && PyErr_Occurred())
        return NULL;
    depth = number;
    Py_RETURN_NONE;
}

static PyObject *set_room(PyObject *self, PyObject *value)
{
    Py_ssize_t number = PyLong_AsSsize_t(value);
    (void)self;
    if (number == -1 && PyErr_Occurred())
        return NULL;
    room = number;
    Py_RETURN_NONE;
}

static PyObject *get_room(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyLong_FromSsize_t(room);
}

static PyObject *get_serial(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyLong_FromUnsignedLongLong(serial);
}

static PyObject *set_interrupted(PyObject *self, PyObject *value)
{
    (void)self;
    interrupted = value == Py_True;
    Py_RETURN_NONE;
}

static PyObject *get_interrupted(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyBool_FromLong(interrupted);
}

static PyObject *set_next_look(PyObject *self, PyObject *value)
{
    double number = PyFloat_AsDouble(value);
    (void)self;
    if (number == -1.0 && PyErr_Occurred())
        return NULL;
    next_look = number;
    Py_RETURN_NONE;
}

static PyObject *set_faulthandler_seen(PyObject *self, PyObject *value)
{
    (void)self;
    faulthandler_seen = value == Py_True;
    Py_RETURN_NONE;
}

/* bind(addresses, describe, main_calls, main_thread, is_enabled, getframe, try_frames) */
static PyObject *bind(PyObject *self, PyObject *args)
{
    unsigned long long call, define_function, new_trap, data_size;
    PyObject *describe_, *main_calls_, *is_enabled_, *getframe_, *try_frames_;
    (void)self;
    if (!PyArg_ParseTuple(args, "(KKKK)OO!kOOO:bind", &call, &define_function, &new_trap, &data_size, &describe_, &PyList_Type, &main_calls_,
                          &main_thread, &is_enabled_, &getframe_, &try_frames_))
        return NULL;
    func_call_unchecked = (void *(*)(void *, const void *, Value *, size_t, void **))(uintptr_t)call;
    linker_define_func_unchecked = (void *(*)(void *, const char *, size_t, const char *, size_t, const void *,
                                              void *(*)(void *, void *, Value *, size_t), void *, void (*)(void *)))(uintptr_t)define_function;
    trap_new = (void *(*)(const char *, size_t))(uintptr_t)new_trap;
    sharedmemory_data_size = (size_t (*)(const void *))(uintptr_t)data_size;
    Py_INCREF(describe_);
    Py_INCREF(main_calls_);
    Py_INCREF(is_enabled_);
    Py_INCREF(getframe_);
    Py_INCREF(try_frames_);
    getframe = getframe_;
    try_frames = try_frames_;
    describe = describe_; /* called once */
    main_calls = main_calls_;
    is_enabled = is_enabled_;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"bind", bind, METH_VARARGS, "Called once, with what it uses of wasmtime and of gothreads."},
    {"request", (PyCFunction)(void (*)(void))request, METH_FASTCALL, "Call a handler; None when Python should see to it."},
    {"define", define, METH_VARARGS, "Define a host function in a linker."},
    {"define_clock", define_clock, METH_VARARGS, "Define WASI's clock_time_get in a linker, for a shared memory."},
    {"get_depth", get_depth, METH_NOARGS, "How deep in WebAssembly the thread is."},
    {"set_depth", set_depth, METH_O, NULL},
    {"get_room", get_room, METH_NOARGS, NULL},
    {"set_room", set_room, METH_O, "How much stack WebAssembly may use on this thread, in bytes."},
    {"get_serial", get_serial, METH_NOARGS, "How many calls of C's the main thread has begun."},
    {"set_interrupted", set_interrupted, METH_O, "Ctrl-C came while the main thread was in a call, or has been told."},
    {"get_interrupted", get_interrupted, METH_NOARGS, NULL},
    {"set_next_look", set_next_look, METH_O, "When the main thread is to look after the signal handlers, in seconds of the monotonic clock."},
    {"set_faulthandler_seen", set_faulthandler_seen, METH_O, "Whether faulthandler is on, as it was looked at last."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec, const char *name)
{
    PyObject *type = PyType_FromSpec(spec);
    if (type == NULL || PyModule_AddObjectRef(module, name, type))
        return NULL;
    return (PyTypeObject *)type;
}

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "gothreads._fast", "Calls between Python and a module's instances, in C.", -1, functions,
                                        NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__fast(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL)
        return NULL;
    name_release = PyUnicode_InternFromString("release");
    name_trapped = PyUnicode_InternFromString("trapped");
    name_buffer = PyUnicode_InternFromString("gothreads_buffer");
    name_request = PyUnicode_InternFromString("gothreads_request");
    name_answer = PyUnicode_InternFromString("answer");
    if (name_release == NULL || name_trapped == NULL || name_buffer == NULL || name_request == NULL || name_answer == NULL
        || (Slot_Type = add_type(module, &Slot_spec, "Slot")) == NULL || (Function_Type = add_type(module, &Function_spec, "Function")) == NULL
        || (Caller_Type = add_type(module, &Caller_spec, "Caller")) == NULL || (Rest_Type = add_type(module, &Rest_spec, "Rest")) == NULL
        || (Export_Type = add_type(module, &Export_spec, "Export")) == NULL
        || (HostFunction_Type = add_type(module, &HostFunction_spec, "HostFunction")) == NULL
        || (Clock_Type = add_type(module, &Clock_spec, "Clock")) == NULL) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
