/* Python's signal handlers while the main thread is in a call: engine/interrupt.py has the rules. */

#include "fast.h"

PyObject *main_calls;
unsigned long main_thread;
int kept;
int handlers_known;
unsigned long long serial;
double next_look;

static PyObject *get_handler, *numbers, *held_type, *hold, *keep, *take;
static void *(*error_new)(const char *message);

/* How often a step is retried that handlers have interrupted. */
#define MOST_TIMES 100

/* 1: every handler is held; 0: one is not; -1 with an exception: there was no room to check. */
static int all_held(void)
{
    Py_ssize_t place, count = PyTuple_Size(numbers);
    for (place = 0; place < count; place++) {
        PyObject *number = PyTuple_GetItem(numbers, place), *handler = PyObject_Vectorcall(get_handler, &number, 1, NULL);
        int held;
        if (UNLIKELY(handler == NULL))
            return -1;
        held = PyLong_Check(handler) || handler == Py_None || (PyObject *)Py_TYPE(handler) == held_type;
        Py_DECREF(handler);
        if (UNLIKELY(!held))
            return 0;
    }
    handlers_known = 1;
    return 1;
}

/* Keeps the exception that is set. */
static void keep_exception(void)
{
    PyObject *type, *value, *traceback, *done;
    int times;
    for (times = 0; times < MOST_TIMES && PyErr_Occurred(); times++) {
        PyErr_Fetch(&type, &value, &traceback);
        PyErr_NormalizeException(&type, &value, &traceback);
        if (traceback != NULL)
            PyException_SetTraceback(value, traceback);
        done = PyObject_CallFunctionObjArgs(keep, value, NULL); /* fails if another handler raises: keep that instead */
        Py_XDECREF(done);
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
    }
    PyErr_Clear();
}

static int push(PyObject *mark)
{
    return PyList_Append(main_calls, mark);
}

static void pop(void)
{
    Py_ssize_t count = PyList_Size(main_calls);
    if (PyList_SetSlice(main_calls, count - 1, count, NULL))
        PyErr_Clear();
}

void hold_handlers(void)
{
    int times, all;
    for (times = 0; times < MOST_TIMES; times++) {
        PyObject *done;
        if (LIKELY(push(Py_False) == 0)) { /* False: handlers run here */
            int raised = PyErr_CheckSignals();
            pop();
            if (UNLIKELY(raised))
                keep_exception();
        } else {
            PyErr_Clear();
        }
        if (LIKELY((all = all_held()) > 0))
            return;
        if (all < 0) { /* then there is no room to hold one either */
            PyErr_Clear();
            return;
        }
        done = PyObject_CallNoArgs(hold);
        if (UNLIKELY(done == NULL))
            keep_exception();
        Py_XDECREF(done);
    }
}

int begin_program(void)
{
    return push(Py_None);
}

void end_program(void)
{
    pop();
    handlers_known = 0; /* the program's code may have installed others */
}

int raise_kept(void)
{
    Py_ssize_t count;
    PyObject *last, *done;
    if (LIKELY(!kept))
        return 0;
    count = PyList_Size(main_calls);
    last = count ? PyList_GetItem(main_calls, count - 1) : Py_None;
    if (last != Py_None && last != Py_False)
        return 0;
    done = PyObject_CallNoArgs(take);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* wasmtime calls this in a thread that runs a module's code, when the engine's epoch has moved. `data` is a callable:
   whether the code is to end. */
static void *epoch_moved(void *context, void *data, uint64_t *delta, uint8_t *kind)
{
    PyGILState_STATE state = PyGILState_Ensure();
    int times, ended = -1;
    (void)context;
    if (on_main_thread())
        hold_handlers();
    for (times = 0; times < MOST_TIMES && ended < 0; times++) {
        PyObject *answer = PyObject_CallNoArgs(data);
        ended = answer != NULL ? PyObject_IsTrue(answer) : -1;
        Py_XDECREF(answer);
        if (UNLIKELY(ended < 0))
            keep_exception(); /* from a handler that was installed at this very moment */
    }
    PyGILState_Release(state);
    if (ended)
        return error_new("interrupted");
    *delta = 1; /* the new deadline is the epoch's next move */
    *kind = 0;  /* continue */
    return NULL;
}

static PyObject *get_serial(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyLong_FromUnsignedLongLong(serial);
}

static PyObject *set_kept(PyObject *self, PyObject *value)
{
    (void)self;
    kept = value == Py_True;
    Py_RETURN_NONE;
}

static PyObject *get_all_held(PyObject *self, PyObject *unused)
{
    int all = all_held();
    (void)self;
    (void)unused;
    return all < 0 ? NULL : PyBool_FromLong(all);
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

static PyObject *set_main_thread(PyObject *self, PyObject *value)
{
    unsigned long number = PyLong_AsUnsignedLong(value);
    (void)self;
    if (number == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    main_thread = number;
    is_main = 0; /* only this thread's: after a fork there is no other */
    Py_RETURN_NONE;
}

static PyObject *get_epoch_moved(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyLong_FromUnsignedLongLong((unsigned long long)(uintptr_t)epoch_moved);
}

/* bind_interrupt(main_calls, main_thread, get_handler, numbers, held_type, hold, keep, take) */
static PyObject *bind_interrupt(PyObject *self, PyObject *args)
{
    (void)self;
    if (!PyArg_ParseTuple(args, "O!kOO!OOOO:bind_interrupt", &PyList_Type, &main_calls, &main_thread, &get_handler, &PyTuple_Type, &numbers, &held_type,
                          &hold, &keep, &take))
        return NULL;
    Py_INCREF(args); /* never released: it keeps its items alive, to which the variables only borrow references */
    Py_RETURN_NONE;
}

static PyObject *bind_error_new(PyObject *self, PyObject *value)
{
    unsigned long long number = PyLong_AsUnsignedLongLong(value);
    (void)self;
    if (PyErr_Occurred())
        return NULL;
    error_new = (void *(*)(const char *))(uintptr_t)number;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"bind_interrupt", bind_interrupt, METH_VARARGS, "Called once, with what it uses of engine/interrupt.py."},
    {"bind_error_new", bind_error_new, METH_O, "Called once, with the address of wasmtime_error_new."},
    {"get_serial", get_serial, METH_NOARGS, "How many calls of C's the main thread has begun."},
    {"set_kept", set_kept, METH_O, "A signal handler has raised while the main thread was in a call; or that was told."},
    {"all_held", get_all_held, METH_NOARGS, "Whether every signal handler is held."},
    {"set_next_look", set_next_look, METH_O, "When the main thread is to look after the wakeup descriptor, in seconds of the monotonic clock."},
    {"set_main_thread", set_main_thread, METH_O, "It is this one, in the child of a fork."},
    {"get_epoch_moved", get_epoch_moved, METH_NOARGS, "The address of what a store calls when the engine's epoch has moved."},
    {NULL, NULL, 0, NULL},
};

int add_interrupt(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
