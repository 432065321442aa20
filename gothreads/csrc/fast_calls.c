/* Calls of exports and handlers that need only an idle caller. runtime/fast_calls.py does the same in Python. */

#include "fast.h"

static PyObject *name_release, *name_released, *name_trapped, *name_payload, *name_request, *name_answer;

/* Whether Python's stack has room for what follows a trap, and for host functions, which could not be entered
   otherwise. A check costs half a call, so it is made only once per GT_FRAMES_CHECK_SECONDS: a thread cannot add more
   frames between two checks than fit into that time, and with less than a third of the stack in use there is ample
   room. If more is in use, Python checks more closely (engine/stack.py, check_python_stack). */
static int has_frames(double now)
{
    PyObject *found;
    if (LIKELY(now - gt_looked < GT_FRAMES_CHECK_SECONDS && now >= gt_looked))
        return 1;
    found = PyObject_CallFunction(gt_getframe, "i", Py_GetRecursionLimit() / GT_FRAMES_DIVISOR);
    /* ValueError: few frames. RecursionError: there was not even room to check. */
    if (UNLIKELY(found != NULL || !PyErr_ExceptionMatches(PyExc_ValueError))) {
        Py_XDECREF(found);
        PyErr_Clear();
        return 0;
    }
    PyErr_Clear();
    gt_looked = now;
    return 1;
}

/* Takes a caller; NULL, without an exception, if the call is left to Python. */
static Caller *take_caller(IdleCallers *idle)
{
    double now;
    if (UNLIKELY(gt_depth || gt_room < idle->stack))
        return NULL;
    now = gt_fine_now();
    return LIKELY(has_frames(now)) ? gt_take_idle(idle, now) : NULL;
}

/* The main thread begins a call: from here on, what signal handlers raise is kept. 0, or -1, without an exception, if
   the call is left to Python. */
static int begin_on_main(IdleCallers *idle)
{
    if (idle->postponed == Py_None || gt_coarse_now() >= gt_next_look)
        return -1;
    if (PyList_Append(gt_main_calls, idle->postponed)) {
        PyErr_Clear();
        return -1;
    }
    gt_store(&gt_serial, gt_serial + 1); /* the watcher reads it */
    gt_all_held = 0;
    return 0;
}

/* The main thread's call has returned. -1 with an exception that a signal handler has raised meanwhile. */
static int end_on_main(void)
{
    Py_ssize_t count = PyList_Size(gt_main_calls);
    if (PyList_SetSlice(gt_main_calls, count - 1, count, NULL))
        return -1;
    return gt_raise_kept();
}

/* Call before Python code continues a call: there, too, what signal handlers raise must be kept. */
static void prepare_for_python(void)
{
    if (gt_on_main_thread() && !gt_all_held)
        gt_hold_handlers();
}

/* Calls a method of the cache with one argument, or none (NULL). 0, or -1 with an exception. */
static int call_cache(const IdleCallers *idle, PyObject *method, PyObject *argument)
{
    PyObject *done;
    prepare_for_python();
    done = PyObject_CallMethodObjArgs(idle->cache, method, argument, NULL);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* Puts back a caller whose call has returned, and takes over its reference. 0, or -1 with an exception. */
static int put_back(IdleCallers *idle, Caller *caller)
{
    int look;
    if (UNLIKELY(gt_load(&idle->over))) {
        int failed = call_cache(idle, name_release, (PyObject *)caller);
        Py_DECREF((PyObject *)caller);
        return failed;
    }
    gt_store(&caller->calls, caller->calls + 1);
    look = gt_put_idle(idle, caller, gt_coarse_now());
    /* The caller is back by now, whatever the result of this. */
    return UNLIKELY(look > 0) ? call_cache(idle, name_released, NULL) : look;
}

/* A call of one or two functions, in one caller. */
typedef struct {
    IdleCallers *idle;
    Caller *caller;
    Function *functions[2]; /* borrowed from the caller, which this thread has: its functions are never removed */
    int on_main, trapped;
} Call;

/* Takes a caller, which must have all these functions. 0, or -1 if the call is left to Python, unless there is an
   exception. */
static int begin(Call *call, IdleCallers *idle, PyObject **names, int count)
{
    Caller *caller = take_caller(idle);
    int place;
    if (UNLIKELY(caller == NULL))
        return -1;
    for (place = 0; place < count; place++) {
        call->functions[place] = (Function *)PyDict_GetItemWithError(caller->functions, names[place]);
        if (UNLIKELY(call->functions[place] == NULL))
            goto back;
    }
    call->on_main = gt_on_main_thread();
    if (call->on_main && UNLIKELY(begin_on_main(idle)))
        goto back;
    call->idle = idle;
    call->caller = caller;
    call->trapped = 0;
    gt_depth++;
    return 0;
back:
    PyErr_Clear();
    /* A thread may have looked for a caller meanwhile, and wait. */
    if (UNLIKELY(gt_put_idle(idle, caller, caller->since) > 0))
        call_cache(idle, name_released, NULL);
    return -1;
}

/* One of the call's functions did not return: ends the app, and sets the resulting exception. This comes before the
   caller is put back: callback_m.py, invariant 3. exception: what described the trap, or NULL. */
static void report_trap(Call *call, PyObject *exception)
{
    call->trapped = 1;
    if (exception == NULL) { /* there was no memory to describe it */
        PyErr_Clear();
        exception = Py_None;
    }
    Py_XDECREF(PyObject_CallMethodObjArgs(call->idle->cache, name_trapped, (PyObject *)call->caller, exception, NULL));
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_SystemError, "a call trapped, and no exception was set");
}

/* Runs one of the call's functions. 0, or -1 with an exception if it did not return. */
static int run(Call *call, int place, Value *values)
{
    void *error, *trap;
    PyObject *exception;
    if (LIKELY(gt_call(call->functions[place], values, &error, &trap) == 0))
        return 0;
    prepare_for_python();
    exception = gt_new_trapped(error, trap);
    report_trap(call, exception);
    Py_XDECREF(exception);
    return -1;
}

/* Calls a Python method that uses the caller, whose functions may trap there too. NULL with an exception. */
static PyObject *run_in_python(Call *call, PyObject *object, PyObject *method, PyObject *argument)
{
    PyObject *answer, *type, *value, *traceback;
    prepare_for_python();
    answer = PyObject_CallMethodObjArgs(object, method, argument, NULL);
    if (UNLIKELY(answer == NULL && PyErr_ExceptionMatches(gt_trapped_type))) {
        PyErr_Fetch(&type, &value, &traceback);
        PyErr_NormalizeException(&type, &value, &traceback);
        report_trap(call, value);
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
    }
    return answer;
}

/* Puts the caller back and returns the call's outcome: `answer`, whose reference it takes over, or NULL with the
   exception that is set. An exception of a signal handler takes precedence over both. */
static PyObject *end(Call *call, PyObject *answer)
{
    PyObject *type, *value, *traceback;
    int failed = 0;
    if (LIKELY(answer != NULL && !call->on_main)) {
        failed = put_back(call->idle, call->caller); /* may run Go, so this thread still counts as inside */
        gt_depth--;
        if (LIKELY(!failed))
            return answer;
        Py_DECREF(answer);
        return NULL;
    }
    PyErr_Fetch(&type, &value, &traceback);
    if (call->trapped)
        Py_DECREF((PyObject *)call->caller);
    else
        failed = put_back(call->idle, call->caller);
    gt_depth--;
    if (call->on_main) {
        PyObject *type2, *value2, *traceback2;
        PyErr_Fetch(&type2, &value2, &traceback2); /* put_back's exception */
        if (UNLIKELY(end_on_main())) { /* always called: else all later calls would count as nested in this one */
            failed = -1;
            Py_XDECREF(type2);
            Py_XDECREF(value2);
            Py_XDECREF(traceback2);
        } else {
            PyErr_Restore(type2, value2, traceback2);
        }
    }
    if (LIKELY(!failed)) {
        if (UNLIKELY(answer == NULL))
            PyErr_Restore(type, value, traceback);
        return answer;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    Py_XDECREF(answer);
    return NULL;
}

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *slow; /* exports.Function, for every case not handled here */
    PyObject *idle;
    PyObject *name;
    char *params;
    Py_ssize_t count;
    char result;
} FastExport;

static PyObject *FastExport_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    FastExport *export = (FastExport *)self;
    IdleCallers *idle = (IdleCallers *)export->idle;
    Py_ssize_t place;
    Value values[GT_MOST_PARAMETERS];
    PyObject *answer;
    Call call;

    if (UNLIKELY(kwnames != NULL || (Py_ssize_t)(nargsf & ~VECTORCALL_OFFSET) != export->count))
        goto slow;
    for (place = 0; place < export->count; place++)
        if (UNLIKELY(!gt_from_python(export->params[place], args[place], &values[place])))
            goto slow;
    if (begin(&call, idle, &export->name, 1)) {
        if (UNLIKELY(PyErr_Occurred()))
            return NULL;
        goto slow;
    }
    if (LIKELY(run(&call, 0, values) == 0))
        answer = gt_to_python(export->result, values);
    else
        answer = NULL;
    return end(&call, answer);
slow:
    return PyObject_Vectorcall(export->slow, args, nargsf & ~VECTORCALL_OFFSET, kwnames);
}

/* FastExport(slow, idle, name, params, result): an exported function that any thread may call. Uncommon cases are passed
   on to `slow`. */
static PyObject *FastExport_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *slow, *idle, *name, *params;
    const char *result;
    FastExport *self;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OO!UUs:FastExport", &slow, gt_idle_callers_type, &idle, &name, &params, &result))
        return NULL;
    self = (FastExport *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->vectorcall = FastExport_vectorcall;
    Py_INCREF(slow);
    Py_INCREF(idle);
    Py_INCREF(name);
    PyUnicode_InternInPlace(&name);
    self->slow = slow;
    self->idle = idle;
    self->name = name;
    self->result = result[0];
    if (gt_copy_kinds(params, &self->params, &self->count) || self->count > GT_MOST_PARAMETERS) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "a FastExport takes at most %d values", GT_MOST_PARAMETERS);
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int FastExport_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((FastExport *)self)->slow);
    Py_VISIT(((FastExport *)self)->idle);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void FastExport_dealloc(PyObject *self)
{
    FastExport *export = (FastExport *)self;
    PyObject_GC_UnTrack(self);
    PyMem_Free(export->params);
    Py_XDECREF(export->slow);
    Py_XDECREF(export->idle);
    Py_XDECREF(export->name);
    gt_free_object(self);
}

/* All attributes are those of the underlying function: its class, signature, documentation, `bytes`. */
static PyObject *FastExport_getattro(PyObject *self, PyObject *name)
{
    return PyObject_GetAttr(((FastExport *)self)->slow, name);
}

static PyObject *FastExport_repr(PyObject *self)
{
    return PyObject_Repr(((FastExport *)self)->slow);
}

/* help() and pydoc ask for this without FastExport_getattro: they look for documentation that is not the type's. */
static PyObject *FastExport_doc(PyObject *self, void *closure)
{
    (void)closure;
    return PyObject_GetAttrString(((FastExport *)self)->slow, "__doc__");
}

/* As an attribute of a class, it is what it is: see exports.Function.__get__. */
static PyObject *FastExport_descr_get(PyObject *self, PyObject *object, PyObject *type)
{
    (void)object;
    (void)type;
    Py_INCREF(self);
    return self;
}

/* copy.copy asks the type for this. (copy.deepcopy asks the object, and gets a `slow`, which does the same.) */
static PyObject *FastExport_copy(PyObject *self, PyObject *unused)
{
    (void)unused;
    Py_INCREF(self);
    return self;
}

static PyMethodDef FastExport_methods[] = {
    {"__copy__", FastExport_copy, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef FastExport_getset[] = {
    {"__doc__", FastExport_doc, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyMemberDef FastExport_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(FastExport, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot FastExport_slots[] = {
    {Py_tp_new, FastExport_new},
    {Py_tp_dealloc, FastExport_dealloc},
    {Py_tp_traverse, FastExport_traverse},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_getattro, FastExport_getattro},
    {Py_tp_repr, FastExport_repr},
    {Py_tp_members, FastExport_members},
    {Py_tp_getset, FastExport_getset},
    {Py_tp_methods, FastExport_methods},
    {Py_tp_descr_get, FastExport_descr_get},
    {0, NULL},
};
static PyType_Spec FastExport_spec = {
    "gothreads._fast.Function", sizeof(FastExport), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_HAVE_GC, FastExport_slots,
};

/* Requests: bytes in, bytes out (bridge/buffers.py; the rules are in the guest's slot/slot.go). */

/* To copy more bytes than this, the GIL is released. */
#define MUCH (32 << 10)

static void copy_bytes(char *to, const char *from, size_t size)
{
    if (size <= MUCH) {
        memcpy(to, from, size);
    } else {
        Py_BEGIN_ALLOW_THREADS
        memcpy(to, from, size);
        Py_END_ALLOW_THREADS
    }
}

/* Whether the bytes lie in the memory. (It never shrinks, so the answer stays true.) */
static int in_memory(const IdleCallers *idle, uint32_t address, size_t size)
{
    return (uint64_t)address + size <= gt_sharedmemory_data_size(idle->shared);
}

/* request(idle, handler, payload) -> the answer; None if the whole request is left to Python. */
static PyObject *request(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    PyObject *names[2] = {name_payload, name_request}, *answer = NULL;
    const char *handler;
    char *payload;
    Py_ssize_t handler_size, size;
    Value values[2];
    ReplyHeader header;
    Slot *slot;
    IdleCallers *idle;
    Call call;
    (void)self;
    if (count != 3 || !PyObject_TypeCheck(args[0], gt_idle_callers_type)) {
        PyErr_SetString(PyExc_TypeError, "the arguments are: an IdleCallers, a handler, a payload");
        return NULL;
    }
    idle = (IdleCallers *)args[0];
    if (!PyUnicode_CheckExact(args[1]) || !PyBytes_CheckExact(args[2]))
        Py_RETURN_NONE;
    if ((handler = PyUnicode_AsUTF8AndSize(args[1], &handler_size)) == NULL) { /* a lone surrogate */
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    PyBytes_AsStringAndSize(args[2], &payload, &size);
    if (handler_size > MUCH || size > GT_LARGEST - MUCH)
        Py_RETURN_NONE;
    if (begin(&call, idle, names, 2)) {
        if (PyErr_Occurred())
            return NULL;
        Py_RETURN_NONE;
    }
    slot = (Slot *)call.caller->slot;
    if (slot == NULL || !slot->address) {
        Py_INCREF(Py_None);
        return end(&call, Py_None);
    }
    values[0].u64 = slot->address;
    values[1].u64 = (uint64_t)(handler_size + size);
    if (run(&call, 0, values))
        goto done;
    if (!in_memory(idle, values[0].u32, (size_t)(handler_size + size))) {
        /* Python finds this too, and raises the error. */
        Py_INCREF(Py_None);
        answer = Py_None;
        goto done;
    }
    memcpy((char *)idle->memory + values[0].u32, handler, (size_t)handler_size);
    copy_bytes((char *)idle->memory + values[0].u32 + handler_size, payload, (size_t)size);
    slot->requests = slot->requests % UINT32_MAX + 1; /* as Go counts them, in 32 bits, from 1 */
    values[0].u64 = slot->address;
    values[1].u64 = (uint64_t)handler_size;
    if (run(&call, 1, values))
        goto done;
    if (in_memory(idle, slot->address, sizeof header)) {
        /* Copied before it is checked: the module may change it at any time. */
        memcpy(&header, idle->memory + slot->address, sizeof header);
        if (LIKELY(header.status == GT_REQUEST_OK && header.length <= GT_KEEP
                   && in_memory(idle, header.address, header.length))) {
            answer = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)header.length);
            if (answer != NULL)
                copy_bytes(PyBytes_AsString(answer), idle->memory + header.address, header.length);
            goto done;
        }
    }
    answer = run_in_python(&call, (PyObject *)slot, name_answer, args[1]);
done:
    return end(&call, answer);
}

static PyMethodDef functions[] = {
    {"request", (PyCFunction)(void (*)(void))request, METH_FASTCALL,
     "request(idle, handler, payload)\n\n"
     "Call a handler. Returns the reply; None if the whole request is left to Python."},
    {NULL, NULL, 0, NULL},
};

int gt_add_fast_calls(PyObject *module)
{
    name_release = PyUnicode_InternFromString("release");
    name_released = PyUnicode_InternFromString("released");
    name_trapped = PyUnicode_InternFromString("trapped");
    name_payload = PyUnicode_InternFromString("gothreads_payload");
    name_request = PyUnicode_InternFromString("gothreads_request");
    name_answer = PyUnicode_InternFromString("answer");
    if (name_release == NULL || name_released == NULL || name_trapped == NULL || name_payload == NULL
        || name_request == NULL || name_answer == NULL)
        return -1;
    return gt_add_type(module, &FastExport_spec, "FastExport") == NULL ? -1 : PyModule_AddFunctions(module, functions);
}
