/* The extension module: its creation, and helpers for types. */

#include "fast.h"

PyTypeObject *add_type(PyObject *module, PyType_Spec *spec, const char *name)
{
    PyObject *type = PyType_FromSpec(spec);
    if (type == NULL || PyModule_AddObjectRef(module, name, type))
        return NULL;
    return (PyTypeObject *)type;
}

void free_object(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
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
        PyErr_SetString(PyExc_ImportError, "gothreads works in the main interpreter only, and this is a subinterpreter");
        return NULL;
    }
    if (module == NULL) {
        module = PyModule_New("gothreads._fast");
        if (module != NULL
            && (add_state(module) || add_function(module) || add_callers(module) || add_calls(module) || add_host(module) || add_clock(module)
                || add_signals(module) || add_interrupt(module)))
            Py_CLEAR(module);
    }
    Py_XINCREF(module);
    return module;
}

static PyModuleDef_Slot slots[] = {{Py_mod_create, create}, {0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "gothreads._fast", "Calls between Python and a module's instances, in C.", 0, NULL,
                                        slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__fast(void)
{
    return PyModuleDef_Init(&definition);
}
