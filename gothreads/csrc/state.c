/* What the module is given once (`bind`), and its per-thread state. */

#include "fast.h"

/* See fast.h for all of these. */
FuncCallUnchecked gt_func_call_unchecked;
LinkerDefineFuncUnchecked gt_linker_define_func_unchecked;
TrapNew gt_trap_new;
SharedMemoryDataSize gt_sharedmemory_data_size;
PyObject *gt_getframe;
PyObject *gt_trapped_type;
PyObject *gt_make_trapped;

THREAD_LOCAL Py_ssize_t gt_depth;
THREAD_LOCAL Py_ssize_t gt_room;
THREAD_LOCAL double gt_looked;
THREAD_LOCAL signed char gt_main_flag;

static PyObject *get_depth(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyLong_FromSsize_t(gt_depth);
}

static PyObject *set_depth(PyObject *self, PyObject *value)
{
    Py_ssize_t number = PyLong_AsSsize_t(value);
    (void)self;
    if (number == -1 && PyErr_Occurred())
        return NULL;
    gt_depth = number;
    Py_RETURN_NONE;
}

static PyObject *set_room(PyObject *self, PyObject *value)
{
    Py_ssize_t number = PyLong_AsSsize_t(value);
    (void)self;
    if (number == -1 && PyErr_Occurred())
        return NULL;
    gt_room = number;
    Py_RETURN_NONE;
}

static PyObject *get_room(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyLong_FromSsize_t(gt_room);
}

/* bind(addresses, trapped_type, make_trapped, getframe) */
static PyObject *bind(PyObject *self, PyObject *args)
{
    unsigned long long func_call, linker_define, trap_new, data_size;
    (void)self;
    if (!PyArg_ParseTuple(args, "(KKKK)OOO:bind", &func_call, &linker_define, &trap_new, &data_size, &gt_trapped_type,
                          &gt_make_trapped, &gt_getframe))
        return NULL;
    gt_func_call_unchecked = (FuncCallUnchecked)(uintptr_t)func_call;
    gt_linker_define_func_unchecked = (LinkerDefineFuncUnchecked)(uintptr_t)linker_define;
    gt_trap_new = (TrapNew)(uintptr_t)trap_new;
    gt_sharedmemory_data_size = (SharedMemoryDataSize)(uintptr_t)data_size;
    Py_INCREF(args); /* never released: it keeps its items alive, to which the variables only borrow references */
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"bind", bind, METH_VARARGS,
     "bind(addresses, trapped_type, make_trapped, getframe)\n\n"
     "Set what is used of wasmtime (by address) and of engine/ffi.py. To be called once."},
    {"get_depth", get_depth, METH_NOARGS, "get_depth()\n\nHow many calls into WebAssembly the calling thread is in."},
    {"set_depth", set_depth, METH_O,
     "set_depth(depth)\n\nSet how many calls into WebAssembly the calling thread is in."},
    {"get_room", get_room, METH_NOARGS, "get_room()\n\nThe calling thread's stack in bytes; 0 if unknown."},
    {"set_room", set_room, METH_O,
     "set_room(room)\n\nSet the size of the calling thread's stack, in bytes; 0: its calls take the slow path."},
    {NULL, NULL, 0, NULL},
};

int gt_add_state(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
