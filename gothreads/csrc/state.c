/* What the module is given once (`bind`), and its per-thread state. */

#include "fast.h"

void *(*func_call_unchecked)(void *context, const void *func, Value *values, size_t count, void **trap);
void *(*linker_define_func_unchecked)(void *linker, const char *module, size_t module_size, const char *name, size_t name_size,
                                             const void *type, void *(*callback)(void *, void *, Value *, size_t), void *data,
                                             void (*finalizer)(void *));
void *(*trap_new)(const char *message, size_t size);
size_t (*sharedmemory_data_size)(const void *memory);

PyObject *getframe;      /* sys._getframe */
PyObject *trapped_type;  /* ffi.Trapped */
PyObject *describe;      /* ffi: (error's address, trap's address) -> exception */

/* See fast.h. */
THREAD_LOCAL Py_ssize_t depth;
THREAD_LOCAL double looked;
THREAD_LOCAL Py_ssize_t room;
THREAD_LOCAL signed char is_main;

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

/* bind(addresses, trapped_type, describe, getframe) */
static PyObject *bind(PyObject *self, PyObject *args)
{
    unsigned long long call, define_function, new_trap, data_size;
    PyObject *trapped_type_, *describe_, *getframe_;
    (void)self;
    if (!PyArg_ParseTuple(args, "(KKKK)OOO:bind", &call, &define_function, &new_trap, &data_size, &trapped_type_, &describe_, &getframe_))
        return NULL;
    func_call_unchecked = (void *(*)(void *, const void *, Value *, size_t, void **))(uintptr_t)call;
    linker_define_func_unchecked = (void *(*)(void *, const char *, size_t, const char *, size_t, const void *,
                                              void *(*)(void *, void *, Value *, size_t), void *, void (*)(void *)))(uintptr_t)define_function;
    trap_new = (void *(*)(const char *, size_t))(uintptr_t)new_trap;
    sharedmemory_data_size = (size_t (*)(const void *))(uintptr_t)data_size;
    Py_INCREF(trapped_type_);
    Py_INCREF(describe_);
    Py_INCREF(getframe_);
    getframe = getframe_;
    trapped_type = trapped_type_;
    describe = describe_; /* bind is called once, so there are no earlier references to release */
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"bind", bind, METH_VARARGS, "Called once, with what it uses of wasmtime and of gothreads."},
    {"get_depth", get_depth, METH_NOARGS, "How deep in WebAssembly the thread is."},
    {"set_depth", set_depth, METH_O, NULL},
    {"get_room", get_room, METH_NOARGS, NULL},
    {"set_room", set_room, METH_O, "How much stack WebAssembly may use on this thread, in bytes."},
    {NULL, NULL, 0, NULL},
};

int add_state(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
