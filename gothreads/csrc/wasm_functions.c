/* An exported function of one instance, called with raw values. */

#include "fast.h"

int gt_call(Function *function, Value *values, void **error, void **trap)
{
    size_t count = (size_t)(function->count ? function->count : 1);
    *trap = NULL;
    Py_BEGIN_ALLOW_THREADS
    *error = gt_func_call_unchecked(function->context, function->func, values, count, trap);
    Py_END_ALLOW_THREADS
    return LIKELY(*error == NULL && *trap == NULL) ? 0 : -1;
}

PyObject *gt_new_trapped(void *error, void *trap)
{
    return PyObject_CallFunction(gt_make_trapped, "KK", (unsigned long long)(uintptr_t)error,
                                 (unsigned long long)(uintptr_t)trap);
}

static void raise_described(void *error, void *trap)
{
    PyObject *exception = gt_new_trapped(error, trap);
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
        PyErr_Format(PyExc_TypeError, "the function takes %zd values (%zd given)", function->count, given);
        return NULL;
    }
    if (given > 8 && (values = PyMem_Malloc((size_t)given * sizeof(Value))) == NULL)
        return PyErr_NoMemory();
    for (place = 0; place < given; place++)
        if (!gt_raw_from_python(function->params[place], args[place], &values[place]))
            goto done;
    if (UNLIKELY(gt_call(function, values, &error, &trap)))
        raise_described(error, trap);
    else
        answer = gt_to_python(function->result, values);
done:
    if (values != few)
        PyMem_Free(values);
    return answer;
}

/* Function(context, func, params, result). `func` is a wasmtime_func_t, as bytes. */
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
    if (size > GT_FUNC_SIZE) {
        PyErr_SetString(PyExc_ValueError, "this wasmtime's wasmtime_func_t is larger than gothreads supports");
        return NULL;
    }
    self = (Function *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->vectorcall = Function_vectorcall;
    self->context = (void *)(uintptr_t)context;
    self->result = result[0];
    memcpy(self->func, func, (size_t)size);
    if (gt_copy_kinds(params, &self->params, &self->count)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void Function_dealloc(PyObject *self)
{
    PyMem_Free(((Function *)self)->params);
    gt_free_object(self);
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
    {Py_tp_doc, "Function(context, func, params, result)\n\n"
                "An exported function of one instance, called with raw values. Only one thread at a time may use it.\n"
                "func: a wasmtime_func_t, as bytes. params, result: a letter for each value (engine/ffi.py)."},
    {0, NULL},
};
static PyType_Spec Function_spec = {
    "gothreads._fast.Function", sizeof(Function), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL, Function_slots,
};

int gt_add_wasm_functions(PyObject *module)
{
    return gt_add_type(module, &Function_spec, "Function") == NULL ? -1 : 0;
}
