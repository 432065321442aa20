/* The extension module: its creation, its constants, and helpers for types. */

#include "fast.h"

#include <float.h>

_Static_assert(sizeof(Value) == 16, "a raw value of wasmtime has 16 bytes");
_Static_assert(sizeof(((Function *)NULL)->func) == GT_FUNC_SIZE, "GT_FUNC_SIZE is a multiple of 8");

PyTypeObject *gt_add_type(PyObject *module, PyType_Spec *spec, const char *name)
{
    PyObject *type = PyType_FromSpec(spec);
    if (type == NULL || PyModule_AddObjectRef(module, name, type))
        return NULL;
    return (PyTypeObject *)type;
}

void gt_free_object(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static int add_float(PyObject *module, const char *name, double number)
{
    PyObject *value = PyFloat_FromDouble(number);
    int failed = PyModule_AddObjectRef(module, name, value);
    Py_XDECREF(value);
    return failed;
}

/* The constants that Python has too, and compares (fast.h). */
static int add_constants(PyObject *module)
{
    static const struct {
        const char *name;
        long number;
    } integers[] = {
        {"ABI", GT_ABI},
        {"VALUE_SIZE", sizeof(Value)},
        {"FRAMES_DIVISOR", GT_FRAMES_DIVISOR},
        {"MOST_PARAMETERS", GT_MOST_PARAMETERS},
        {"KEEP", GT_KEEP},
        {"LARGEST", GT_LARGEST},
        {"REQUEST_OK", GT_REQUEST_OK},
        {"REPLY_HEADER_SIZE", sizeof(ReplyHeader)},
    };
    size_t place;
    for (place = 0; place < sizeof integers / sizeof *integers; place++)
        if (PyModule_AddIntConstant(module, integers[place].name, integers[place].number))
            return -1;
    if (PyModule_AddStringConstant(module, "VALUE_KINDS", GT_VALUE_KINDS)
        || add_float(module, "FRAMES_CHECK_SECONDS", GT_FRAMES_CHECK_SECONDS)
        || add_float(module, "FLOAT32_MAX", FLT_MAX))
        return -1;
    return 0;
}

/* The module's state is process-wide, so there is one module, for the main interpreter; another interpreter would
   overwrite the state. (Initialisation is multi-phase, since a single-phase module is copied into other interpreters
   without being asked. Python itself refuses interpreters with their own GIL.) */
static PyObject *create(PyObject *spec, PyModuleDef *definition)
{
    static PyObject *module;
    (void)spec;
    (void)definition;
    if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
        PyErr_SetString(PyExc_ImportError,
                        "gothreads works in the main interpreter only, and this is a subinterpreter");
        return NULL;
    }
    if (module == NULL) {
        module = PyModule_New("gothreads._fast");
        if (module != NULL
            && (add_constants(module) || gt_add_state(module) || gt_add_wasm_functions(module) || gt_add_callers(module)
                || gt_add_fast_calls(module) || gt_add_host_functions(module) || gt_add_clock(module)
                || gt_add_trap_signals(module) || gt_add_interrupt(module) || gt_add_peers(module)
                || gt_add_io_table(module) || gt_add_scheduler(module)))
            Py_CLEAR(module);
    }
    Py_XINCREF(module);
    return module;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_create, create},
#if defined(Py_GIL_DISABLED)
    {Py_mod_gil, Py_MOD_GIL_NOT_USED}, /* fast.h says why */
#endif
    {0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "gothreads._fast",
                                        "Calls between Python and a module's instances, in C.", 0, NULL,
                                        slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__fast(void)
{
    return PyModuleDef_Init(&definition);
}
