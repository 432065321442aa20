/* Converts values between Python and WebAssembly. */

#include "fast.h"

#include <float.h>

int gt_from_python(char kind, PyObject *object, Value *value)
{
    int overflow;
    long long number;
    switch (kind) {
    case 'i':
    case 'I':
    case 'q':
        if (!PyLong_CheckExact(object))
            return 0;
        number = PyLong_AsLongLongAndOverflow(object, &overflow);
        if (overflow)
            return 0;
        if (kind == 'q') {
            value->i64 = number;
            return 1;
        }
        if (kind == 'i' ? number < INT32_MIN || number > INT32_MAX : number < 0 || number > UINT32_MAX)
            return 0;
        value->u32 = (uint32_t)number;
        return 1;
    case 'Q':
        if (!PyLong_CheckExact(object))
            return 0;
        value->u64 = PyLong_AsUnsignedLongLong(object);
        if (value->u64 == (uint64_t)-1 && PyErr_Occurred()) {
            PyErr_Clear();
            return 0;
        }
        return 1;
    case 'd':
        if (!PyFloat_CheckExact(object))
            return 0;
        value->f64 = PyFloat_AsDouble(object);
        return 1;
    case 'f': {
        double exact;
        if (!PyFloat_CheckExact(object))
            return 0;
        exact = PyFloat_AsDouble(object);
        /* Finite, but perhaps not as a float. */
        if (exact - exact == 0.0 && (exact > FLT_MAX || exact < -FLT_MAX))
            return 0;
        value->f32 = (float)exact;
        return 1;
    }
    case '?':
        if (object != Py_True && object != Py_False)
            return 0;
        value->i32 = object == Py_True;
        return 1;
    default:
        return 0;
    }
}

int gt_raw_from_python(char kind, PyObject *object, Value *value)
{
    switch (kind) {
    case 'f':
    case 'd': {
        double number = PyFloat_AsDouble(object);
        if (number == -1.0 && PyErr_Occurred())
            return 0;
        if (kind == 'f')
            value->f32 = (float)number;
        else
            value->f64 = number;
        return 1;
    }
    case 'q':
    case 'Q': {
        uint64_t number = PyLong_AsUnsignedLongLongMask(object);
        if (number == (uint64_t)-1 && PyErr_Occurred())
            return 0;
        value->u64 = number;
        return 1;
    }
    default: {
        unsigned long number = PyLong_AsUnsignedLongMask(object);
        if (number == (unsigned long)-1 && PyErr_Occurred())
            return 0;
        value->u64 = 0;
        value->u32 = (uint32_t)number;
        return 1;
    }
    }
}

PyObject *gt_to_python(char kind, const Value *value)
{
    switch (kind) {
    case 'i':
        return PyLong_FromLong(value->i32);
    case 'I':
        return PyLong_FromUnsignedLong(value->u32);
    case 'q':
        return PyLong_FromLongLong(value->i64);
    case 'Q':
        return PyLong_FromUnsignedLongLong(value->u64);
    case 'f':
        return PyFloat_FromDouble(value->f32);
    case 'd':
        return PyFloat_FromDouble(value->f64);
    case '?':
        return PyBool_FromLong(value->i32 != 0);
    default:
        Py_INCREF(Py_None);
        return Py_None;
    }
}

int gt_copy_kinds(PyObject *text, char **copy, Py_ssize_t *count)
{
    Py_ssize_t size, place;
    const char *given = PyUnicode_AsUTF8AndSize(text, &size);
    if (given == NULL)
        return -1;
    for (place = 0; place < size; place++)
        if (given[place] == 0 || strchr(GT_VALUE_KINDS, given[place]) == NULL)
            break;
    if (place < size || size > GT_MOST_VALUES) {
        PyErr_Format(PyExc_ValueError, "at most %d of the letters " GT_VALUE_KINDS " are needed, not %R",
                     GT_MOST_VALUES, text);
        return -1;
    }
    *copy = PyMem_Malloc((size_t)size + 1);
    if (*copy == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(*copy, given, (size_t)size + 1);
    *count = size;
    return 0;
}
