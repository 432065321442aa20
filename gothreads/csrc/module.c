/* The module. */

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

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "gothreads._fast", "Calls between Python and a module's instances, in C.", -1, NULL,
                                        NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__fast(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL
        && (add_state(module) || add_function(module) || add_callers(module) || add_calls(module) || add_host(module) || add_clock(module)
            || add_signals(module)))
        Py_CLEAR(module);
    return module;
}
