/* Python's signal handlers while the main thread is in a call: engine/interrupt.py has the rules. */

#include "fast.h"

PyObject *gt_main_calls;
unsigned long gt_main_thread;
int gt_kept;
int gt_all_held;
unsigned long long gt_serial;
double gt_next_look;

/* Of engine/interrupt.py: _handler, _NUMBERS, Held, hold, keep, take. */
static PyObject *get_handler, *numbers, *held_type, *python_hold, *python_keep, *python_take;
static void *(*error_new)(const char *message);

/* How often a step is retried that handlers have interrupted. */
#define MOST_RETRIES 100

/* 1: every handler is held; 0: one is not; -1 with an exception: there was no room to check. */
static int check_all_held(void)
{
    Py_ssize_t place, count = PyTuple_Size(numbers);
    for (place = 0; place < count; place++) {
        PyObject *number = PyTuple_GetItem(numbers, place);
        PyObject *handler = PyObject_Vectorcall(get_handler, &number, 1, NULL);
        int held;
        if (UNLIKELY(handler == NULL))
            return -1;
        held = PyLong_Check(handler) || handler == Py_None || (PyObject *)Py_TYPE(handler) == held_type;
        Py_DECREF(handler);
        if (UNLIKELY(!held))
            return 0;
    }
    gt_all_held = 1;
    return 1;
}

/* Keeps the exception that is set. */
static void keep_exception(void)
{
    PyObject *type, *value, *traceback, *done;
    int times;
    for (times = 0; times < MOST_RETRIES && PyErr_Occurred(); times++) {
        PyErr_Fetch(&type, &value, &traceback);
        PyErr_NormalizeException(&type, &value, &traceback);
        if (traceback != NULL)
            PyException_SetTraceback(value, traceback);
        /* Fails if another handler raises: keep that instead. */
        done = PyObject_CallFunctionObjArgs(python_keep, value, NULL);
        Py_XDECREF(done);
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
    }
    PyErr_Clear();
}

static int push(PyObject *mark)
{
    return PyList_Append(gt_main_calls, mark);
}

static void pop(void)
{
    Py_ssize_t count = PyList_Size(gt_main_calls);
    if (PyList_SetSlice(gt_main_calls, count - 1, count, NULL))
        PyErr_Clear();
}

void gt_hold_handlers(void)
{
    int times, all;
    for (times = 0; times < MOST_RETRIES; times++) {
        PyObject *done;
        if (LIKELY(push(Py_False) == 0)) { /* False: handlers run here */
            int raised = PyErr_CheckSignals();
            pop();
            if (UNLIKELY(raised))
                keep_exception();
        } else {
            PyErr_Clear();
        }
        if (LIKELY((all = check_all_held()) > 0))
            return;
        if (all < 0) { /* then there is no room to hold one either */
            PyErr_Clear();
            return;
        }
        done = PyObject_CallNoArgs(python_hold);
        if (UNLIKELY(done == NULL))
            keep_exception();
        Py_XDECREF(done);
    }
}

int gt_begin_program(void)
{
    return push(Py_None);
}

void gt_end_program(void)
{
    pop();
    gt_all_held = 0; /* the program's code may have installed others */
}

int gt_raise_kept(void)
{
    Py_ssize_t count;
    PyObject *last, *done;
    if (LIKELY(!gt_kept))
        return 0;
    count = PyList_Size(gt_main_calls);
    last = count ? PyList_GetItem(gt_main_calls, count - 1) : Py_None;
    if (last != Py_None && last != Py_False)
        return 0;
    done = PyObject_CallNoArgs(python_take);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* WASMTIME_UPDATE_DEADLINE_CONTINUE */
#define UPDATE_DEADLINE_CONTINUE 0

/* wasmtime calls this in a thread that runs a module's code, when the engine's epoch has moved. `data` is a callable:
   whether the code is to end. */
static void *epoch_moved(void *context, void *data, uint64_t *delta, uint8_t *kind)
{
    PyGILState_STATE state = PyGILState_Ensure();
    int times, ended = -1;
    (void)context;
    if (gt_on_main_thread())
        gt_hold_handlers();
    for (times = 0; times < MOST_RETRIES && ended < 0; times++) {
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
    *kind = UPDATE_DEADLINE_CONTINUE;
    return NULL;
}

static PyObject *get_serial(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyLong_FromUnsignedLongLong(gt_load(&gt_serial));
}

static PyObject *set_kept(PyObject *self, PyObject *value)
{
    (void)self;
    gt_kept = value == Py_True;
    Py_RETURN_NONE;
}

static PyObject *get_all_held(PyObject *self, PyObject *unused)
{
    int all = check_all_held();
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
    gt_next_look = number;
    Py_RETURN_NONE;
}

static PyObject *set_main_thread(PyObject *self, PyObject *value)
{
    unsigned long number = PyLong_AsUnsignedLong(value);
    (void)self;
    if (number == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    gt_main_thread = number;
    gt_main_flag = 0; /* only this thread's: after a fork there is no other */
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
    if (!PyArg_ParseTuple(args, "O!kOO!OOOO:bind_interrupt", &PyList_Type, &gt_main_calls, &gt_main_thread,
                          &get_handler, &PyTuple_Type, &numbers, &held_type, &python_hold, &python_keep, &python_take))
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
    {"bind_interrupt", bind_interrupt, METH_VARARGS,
     "bind_interrupt(calls, main_thread, get_handler, numbers, held_type, hold, keep, take)\n\n"
     "Set what is used of engine/interrupt.py. To be called once."},
    {"bind_error_new", bind_error_new, METH_O,
     "bind_error_new(address)\n\nSet the address of wasmtime_error_new. To be called once."},
    {"get_serial", get_serial, METH_NOARGS, "get_serial()\n\nHow many calls the main thread has begun in C."},
    {"set_kept", set_kept, METH_O,
     "set_kept(kept)\n\nSet whether an exception of a signal handler is kept until the main thread's call returns."},
    {"all_held", get_all_held, METH_NOARGS, "all_held()\n\nWhether every signal handler is held."},
    {"set_next_look", set_next_look, METH_O,
     "set_next_look(time)\n\n"
     "Set when the main thread next checks the wakeup descriptor, in seconds of the monotonic clock."},
    {"set_main_thread", set_main_thread, METH_O,
     "set_main_thread(ident)\n\nMake the calling thread the main thread, in the child of a fork."},
    {"get_epoch_moved", get_epoch_moved, METH_NOARGS,
     "get_epoch_moved()\n\nThe address of the callback for a store whose engine's epoch has moved."},
    {NULL, NULL, 0, NULL},
};

int gt_add_interrupt(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
