/* WASI's clock: a host function that does not need Python. */

#include "fast.h"

static PyTypeObject *Clock_type;

typedef struct {
    PyObject_HEAD
    char *memory;
    const void *shared;
} Clock;

/* WASI's errno values. */
enum { ERRNO_SUCCESS = 0, ERRNO_FAULT = 21, ERRNO_INVAL = 28 };

/* Indexed by WASI's clock number. */
static const clockid_t clocks[] = {
    CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};

/* clock_time_get(id, precision, where). wasmtime's own looks up the memory by name on each call, and its monotonic
   clock starts anew in each store. */
static void *clock_time_get(void *data, void *caller, Value *values, size_t count)
{
    const Clock *clock = data;
    struct timespec now;
    uint64_t nanoseconds;
    uint32_t id = values[0].u32, where = values[2].u32;
    (void)caller;
    (void)count;
    if (id >= sizeof clocks / sizeof *clocks || clock_gettime(clocks[id], &now)) {
        values[0].u64 = ERRNO_INVAL;
    } else if ((uint64_t)where + sizeof nanoseconds > gt_sharedmemory_data_size(clock->shared)) {
        values[0].u64 = ERRNO_FAULT;
    } else {
        nanoseconds = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        memcpy(clock->memory + where, &nanoseconds, sizeof nanoseconds);
        values[0].u64 = ERRNO_SUCCESS;
    }
    return NULL;
}

static PyType_Slot Clock_slots[] = {
    {Py_tp_dealloc, gt_free_object},
    {Py_tp_doc, "WASI's clock for one shared memory. It must live as long as the linker that has it is in use."},
    {0, NULL},
};
static PyType_Spec Clock_spec = {
    "gothreads._fast.Clock", sizeof(Clock), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, Clock_slots,
};

/* define_clock(linker, module, name, type, memory, shared) -> (an object that must live as long as the linker is used,
   an error's address or 0) */
static PyObject *define_clock(PyObject *self, PyObject *args)
{
    unsigned long long linker, type, memory, shared;
    const char *module, *name;
    Py_ssize_t module_size, name_size;
    Clock *clock;
    void *error;
    (void)self;
    if (!PyArg_ParseTuple(args, "Ks#s#KKK:define_clock", &linker, &module, &module_size, &name, &name_size, &type,
                          &memory, &shared))
        return NULL;
    clock = (Clock *)PyType_GenericAlloc(Clock_type, 0);
    if (clock == NULL)
        return NULL;
    clock->memory = (char *)(uintptr_t)memory;
    clock->shared = (const void *)(uintptr_t)shared;
    error = gt_linker_define_func_unchecked((void *)(uintptr_t)linker, module, (size_t)module_size, name,
                                            (size_t)name_size, (void *)(uintptr_t)type, clock_time_get, clock, NULL);
    return Py_BuildValue("NK", (PyObject *)clock, (unsigned long long)(uintptr_t)error);
}

static PyMethodDef functions[] = {
    {"define_clock", define_clock, METH_VARARGS,
     "define_clock(linker, module, name, type, memory, shared)\n\n"
     "Define WASI's clock_time_get in a linker, for a shared memory. Returns an object that must live as long as the\n"
     "linker is in use, and an error's address or 0."},
    {NULL, NULL, 0, NULL},
};

int gt_add_clock(PyObject *module)
{
    Clock_type = gt_add_type(module, &Clock_spec, "Clock");
    return Clock_type == NULL ? -1 : PyModule_AddFunctions(module, functions);
}
