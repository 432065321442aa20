/* Host functions: Python functions that modules call. */

#include "fast.h"

static PyTypeObject *HostFunction_type;

typedef struct {
    PyObject_HEAD
    PyObject *implementation, *failed;
    char *params;
    Py_ssize_t count;
    char result;
    int own; /* 1: gothreads' code; 0: the program's */
} HostFunction;

/* Makes a trap from the exception that is set, which is cleared. */
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
    trap = text != NULL ? gt_trap_new(text, (size_t)size) : gt_trap_new("a host function failed", 22);
    Py_XDECREF(message);
    Py_XDECREF(name);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return trap;
}

/* wasmtime calls this in any thread, without the GIL. */
static void *host_function(void *data, void *caller, Value *values, size_t count)
{
    HostFunction *host = data;
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *few[9], **args = few, *answer = NULL;
    void *trap = NULL;
    Py_ssize_t place, made = 0;
    int on_main = gt_on_main_thread(), in_program = on_main && !host->own;
    (void)caller;
    (void)count;
    if (on_main && host->own && UNLIKELY(!gt_all_held))
        gt_hold_handlers();
    if (in_program && gt_begin_program())
        in_program = 0;
    else if (host->count > 8 && (args = PyMem_Malloc((size_t)(host->count + 1) * sizeof *args)) == NULL)
        PyErr_NoMemory();
    else {
        /* args[0] is left for the callee's use: VECTORCALL_OFFSET. */
        for (place = 0; place < host->count; place++, made++)
            if ((args[place + 1] = gt_to_python(host->params[place], &values[place])) == NULL)
                break;
        if (made == host->count)
            answer = PyObject_Vectorcall(host->implementation, args + 1, (size_t)host->count | VECTORCALL_OFFSET, NULL);
        for (place = 0; place < made; place++)
            Py_DECREF(args[place + 1]);
        if (answer != NULL && host->result && !gt_raw_from_python(host->result, answer, &values[0]))
            Py_CLEAR(answer);
    }
    if (args != few)
        PyMem_Free(args);
    if (in_program)
        gt_end_program();
    if (answer == NULL)
        trap = trap_of_exception(host);
    Py_XDECREF(answer);
    PyGILState_Release(state);
    return trap;
}

HostCallback gt_host_callback(PyObject *host)
{
    if (Py_TYPE(host) == HostFunction_type)
        return host_function;
    PyErr_SetString(PyExc_TypeError, "not a HostFunction");
    return NULL;
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
    PyObject_GC_UnTrack(self);
    HostFunction_clear(self);
    PyMem_Free(((HostFunction *)self)->params);
    gt_free_object(self);
}

static PyType_Slot HostFunction_slots[] = {
    {Py_tp_dealloc, HostFunction_dealloc},
    {Py_tp_traverse, HostFunction_traverse},
    {Py_tp_clear, HostFunction_clear},
    {Py_tp_doc, "A host function. It must live as long as the linker that has it is in use."},
    {0, NULL},
};
static PyType_Spec HostFunction_spec = {
    "gothreads._fast.HostFunction", sizeof(HostFunction), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
    | Py_TPFLAGS_DISALLOW_INSTANTIATION, HostFunction_slots,
};

/* define(linker, module, name, type, params, result, implementation, failed, own)
   -> (an object that must live as long as the linker is used, an error's address or 0) */
static PyObject *define(PyObject *self, PyObject *args)
{
    unsigned long long linker, type;
    const char *module, *name, *result;
    Py_ssize_t module_size, name_size;
    int own;
    PyObject *params, *implementation, *failed;
    HostFunction *host;
    void *error;
    (void)self;
    if (!PyArg_ParseTuple(args, "Ks#s#KUsOOp:define", &linker, &module, &module_size, &name, &name_size, &type, &params,
                          &result, &implementation, &failed, &own))
        return NULL;
    host = (HostFunction *)PyType_GenericAlloc(HostFunction_type, 0);
    if (host == NULL)
        return NULL;
    if (gt_copy_kinds(params, &host->params, &host->count)) {
        Py_DECREF((PyObject *)host);
        return NULL;
    }
    Py_INCREF(implementation);
    Py_INCREF(failed);
    host->implementation = implementation;
    host->failed = failed;
    host->result = result[0];
    host->own = own;
    error = gt_linker_define_func_unchecked((void *)(uintptr_t)linker, module, (size_t)module_size, name,
                                            (size_t)name_size, (void *)(uintptr_t)type, host_function, host, NULL);
    return Py_BuildValue("NK", (PyObject *)host, (unsigned long long)(uintptr_t)error);
}

static PyMethodDef functions[] = {
    {"define", define, METH_VARARGS,
     "define(linker, module, name, type, params, result, implementation, failed, own)\n\n"
     "Define a host function in a linker. Returns an object that must live as long as the linker is in use, and an\n"
     "error's address or 0. (engine/ffi.py: HostFunctions.define)"},
    {NULL, NULL, 0, NULL},
};

int gt_add_host_functions(PyObject *module)
{
    HostFunction_type = gt_add_type(module, &HostFunction_spec, "HostFunction");
    return HostFunction_type == NULL ? -1 : PyModule_AddFunctions(module, functions);
}
