/* gothreads._fast: calls between Python and a module's instances in C. It does what engine/ffi.py does through ctypes,
   in a tenth of the time.

   The extension is optional: everything works without it, behind the same interface (engine/extension.py). Uncommon
   cases are always left to Python: an argument that is not exactly of the signature's type, an app that is not running,
   a cache without an idle caller. So the rules and the messages are in one place.

   Names: every function and variable that the files share begins with gt_, every constant with GT_. (The functions of
   Go's runtime that begin with gt_ are in the module, not here.) Types have no prefix, and a type that Python also has
   (engine/callers.py, engine/ffi.py, runtime/fast_calls.py) has the same name there.

   State: the variables below are per process, not per module, on purpose. There is only one module, since gothreads
   works in the main interpreter only (module.c refuses others), and wasmtime calls some of this code without any
   Python object at hand. Access through a module state would cost a lookup in every call.

   Threads: two may run any of this code at the same time, since free-threaded builds of Python have no GIL. (With the
   GIL, it is released while a module's code runs, and while many bytes are copied.) So everything here is one of these:
   - set when gothreads is imported, and never again: what is bound, types, names;
   - set when an object is made, and never again: a Function, FastExport, HostFunction, Clock, IoCall;
   - of one thread: THREAD_LOCAL, or for the main thread only (interrupt.c);
   - of the thread that has a caller: the Caller, its Slot and its functions;
   - guarded by a lock: IdleCallers (callers.c), Peers, and of an IoTable what io.h says;
   - atomic, in one place: gt_load, gt_store, and the entries of an IoTable.

   wasmtime's functions are passed as addresses (`bind`), since wasmtime-py has loaded them already.

   Uses Python's stable ABI as of 3.11. Vectorcall joined it in 3.12, and 3.11 has it with the same values.
   Free-threaded builds have no stable ABI before 3.15: there the extension is for one version. */

#ifndef GOTHREADS_FAST_H
#define GOTHREADS_FAST_H

#define PY_SSIZE_T_CLEAN

/* Before Python.h, which has errors of its own for some of these builds. */
#include <patchlevel.h>
#include <pyconfig.h>

#include <stdint.h>

#if !defined(Py_GIL_DISABLED)
#define Py_LIMITED_API 0x030B0000
#endif

#if !defined(__linux__)
#error "gothreads supports Linux only."
#endif
#if !defined(__GNUC__)
#error "gothreads needs GCC or Clang: it uses their atomic operations and thread-local variables."
#endif
#if UINTPTR_MAX != UINT64_MAX
#error "gothreads supports 64-bit platforms only: it stores addresses as 64-bit numbers and reads 64-bit ELF tables."
#endif
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "gothreads supports little-endian processors only: it copies WebAssembly's numbers as they are."
#endif
#if PY_VERSION_HEX < 0x030B0000
#error "gothreads needs Python 3.11 or later."
#endif
#include <Python.h>
#include <structmember.h>

#include <stddef.h>
#include <string.h>
#include <time.h>

#if !defined(Py_TPFLAGS_HAVE_VECTORCALL)
#define Py_TPFLAGS_HAVE_VECTORCALL (1UL << 11)
typedef PyObject *(*vectorcallfunc)(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames);
PyAPI_FUNC(PyObject *) PyVectorcall_Call(PyObject *callable, PyObject *tuple, PyObject *dict);
PyAPI_FUNC(PyObject *) PyObject_Vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames);
#endif
#define VECTORCALL_OFFSET ((size_t)1 << (8 * sizeof(size_t) - 1)) /* PY_VECTORCALL_ARGUMENTS_OFFSET */

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define THREAD_LOCAL __thread

/* Guards what several threads change. With the GIL it is nothing: the GIL is held as long as this would be. No Python
   code runs, nothing waits and no object is freed meanwhile, so no thread can have it and wait for another. */
#if defined(Py_GIL_DISABLED)
typedef PyMutex Lock;
#define gt_lock(lock) PyMutex_Lock(lock)
#define gt_unlock(lock) PyMutex_Unlock(lock)
#else
typedef struct {
    char unused;
} Lock;
#define gt_lock(lock) ((void)(lock))
#define gt_unlock(lock) ((void)(lock))
#endif

/* A number that other threads may change or read meanwhile. */
#define gt_load(place) __atomic_load_n(place, __ATOMIC_ACQUIRE)
#define gt_store(place, value) __atomic_store_n(place, value, __ATOMIC_RELEASE)

#pragma GCC visibility push(hidden)

/* Constants that Python has too. The module exports them without the prefix (module.c), and Python compares them when
   it imports the file that is named here (engine/extension.py, shared). */

/* engine/extension.py: to be raised, there too, with each change to the functions and types that Python uses. */
#define GT_ABI 6
/* engine/ffi.py: a letter for each type of value, as in module struct; ? for a bool. */
#define GT_VALUE_KINDS "iIqQfd?"
/* engine/stack.py: the fast path is for calls that find less than one part in so many of Python's stack in use. */
#define GT_FRAMES_DIVISOR 3
/* runtime/fast_calls.py: how often that is checked, in seconds (has_frames in fast_calls.c). */
#define GT_FRAMES_CHECK_SECONDS 5e-6
/* runtime/fast_calls.py: the most parameters of an export that is called in C. */
#define GT_MOST_PARAMETERS 8
/* bridge/buffers.py: replies above this size are freed at once; and the largest request or reply. In bytes. */
#define GT_KEEP (64 << 10)
#define GT_LARGEST ((1L << 31) - (1 << 16))
/* bridge/buffers.py: RequestStatus.OK. */
#define GT_REQUEST_OK 0

/* The most values of a signature. wasmtime accepts no more parameters. */
#define GT_MOST_VALUES 1000
/* The most that is stored of a wasmtime_func_t, in bytes. Its size is 16 in wasmtime 50; Python passes the actual
   size. */
#define GT_FUNC_SIZE 32

/* wasmtime_val_raw_t. Its size is compared with engine/ffi.py's. */
typedef union {
    int32_t i32;
    uint32_t u32;
    int64_t i64;
    uint64_t u64;
    float f32;
    double f64;
    uint8_t v128[16];
} Value;

/* What precedes a reply in the module's memory. Its size is compared with bridge/buffers.py's. */
typedef struct {
    uint32_t status, address, length;
} ReplyHeader;

/* state.c: what is bound, and the per-thread state. */

typedef void *(*FuncCallUnchecked)(void *context, const void *func, Value *values, size_t count, void **trap);
typedef void *(*HostCallback)(void *data, void *caller, Value *values, size_t count);
typedef void *(*LinkerDefineFuncUnchecked)(void *linker, const char *module, size_t module_size, const char *name,
                                           size_t name_size, const void *type, HostCallback callback, void *data,
                                           void (*finalizer)(void *));
typedef void *(*TrapNew)(const char *message, size_t size);
typedef size_t (*SharedMemoryDataSize)(const void *memory);

extern FuncCallUnchecked gt_func_call_unchecked;
extern LinkerDefineFuncUnchecked gt_linker_define_func_unchecked;
extern TrapNew gt_trap_new;
extern SharedMemoryDataSize gt_sharedmemory_data_size;

extern PyObject *gt_getframe;     /* sys._getframe */
extern PyObject *gt_trapped_type; /* ffi.Trapped */
extern PyObject *gt_make_trapped; /* ffi.trapped: (error's address, trap's address) -> a Trapped */

/* Of the thread. Python has the first three as engine/stack.py's `inside`. */
extern THREAD_LOCAL Py_ssize_t gt_depth;      /* how many calls deep in WebAssembly it is */
extern THREAD_LOCAL Py_ssize_t gt_room;       /* its stack in bytes; 0: unknown */
extern THREAD_LOCAL double gt_looked;         /* when its Python stack was last checked, in monotonic seconds */
extern THREAD_LOCAL signed char gt_main_flag; /* 1: it is the main thread; -1: it is not; 0: unknown */

/* interrupt.c: signal handlers while the main thread is in a call (engine/interrupt.py). All of this is for the main
   thread only. */

extern PyObject *gt_main_calls;      /* interrupt.calls */
extern unsigned long gt_main_thread; /* interrupt.MAIN */
extern int gt_kept;                  /* a handler's exception is kept, to be raised when the call has returned */
extern int gt_all_held;              /* every handler is known to be held; 0: they must be checked */
extern unsigned long long gt_serial; /* how many calls the main thread has begun in C */
extern double gt_next_look;          /* when its next call must check the wakeup descriptor, in monotonic seconds */

/* Call before gothreads' own code runs in a call: runs the handlers of pending signals, and holds all handlers. */
void gt_hold_handlers(void);
/* Bracket the program's code in a call. gt_begin_program returns -1 with an exception: then the code must not run. */
int gt_begin_program(void);
void gt_end_program(void);
/* Call when a call has returned: -1 with the kept exception, if it is to be raised now. */
int gt_raise_kept(void);

static inline int gt_on_main_thread(void)
{
    if (UNLIKELY(!gt_main_flag))
        gt_main_flag = PyThread_get_thread_ident() == gt_main_thread ? 1 : -1;
    return gt_main_flag > 0;
}

static inline double gt_seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* time.monotonic() */
static inline double gt_fine_now(void)
{
    return gt_seconds_of(CLOCK_MONOTONIC);
}

/* The same, but up to a few milliseconds behind: it costs a quarter as much. */
static inline double gt_coarse_now(void)
{
    return gt_seconds_of(CLOCK_MONOTONIC_COARSE);
}

/* values.c: conversion of values. A value's kind is one of GT_VALUE_KINDS. */

/* 1: the converted object is in *value. 0: the object is not exactly of that type and range; no exception is set. */
int gt_from_python(char kind, PyObject *object, Value *value);
/* Converts a raw value: a number of the right size, whatever its sign. 1, or 0 with an exception. */
int gt_raw_from_python(char kind, PyObject *object, Value *value);
PyObject *gt_to_python(char kind, const Value *value);
/* Copies a string of kinds; -1 with an exception if it has other characters, or is too long. */
int gt_copy_kinds(PyObject *text, char **copy, Py_ssize_t *count);

/* wasm_functions.c: an exported function of one instance (ffi.Function). */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    void *context;
    char *params;
    Py_ssize_t count; /* of parameters */
    char result;      /* 0: none */
    uint64_t func[GT_FUNC_SIZE / 8];
} Function;

/* Runs it without the GIL. 0, or -1 with `*error` and `*trap` for gt_new_trapped. */
int gt_call(Function *function, Value *values, void **error, void **trap);
/* The exception for an error or trap; NULL, with an exception set, if it cannot be made. */
PyObject *gt_new_trapped(void *error, void *trap);

/* callers.c: the types that engine/callers.py has too: a caller's slot (the base of bridge.buffers.Buffers), a caller
   (the base of callback_m.CallbackM), and the idle callers. */

typedef struct {
    PyObject_HEAD
    unsigned int address; /* in the module; 0: not opened yet */
    long long requests;   /* how many were begun since it was opened; Go counts them too */
} Slot;

typedef struct {
    PyObject_HEAD
    PyObject *functions; /* name -> Function */
    PyObject *slot;      /* a Slot; NULL until it is set */
    double since;        /* when it was last taken or put back, in seconds of the monotonic clock */
    long long calls;
} Caller;

typedef struct {
    PyObject_HEAD
    Lock lock;        /* guards the next four, and `since` of the callers here: callers.c says why */
    Caller **callers; /* the oldest first */
    Py_ssize_t count, capacity;
    char open;        /* the app is running and accepts calls */
    /* Set by Python, which holds callback_m's condition; read with gt_load. */
    int waiting, passed, over;
    /* Set once. */
    /* C calls its `released` if a thread waits or a caller is old, its `release` if there are too many callers, and its
       `trapped` after a trap. */
    PyObject *cache;
    PyObject *postponed; /* interrupt.Postponed, for calls of the main thread; or None: it makes none here */
    Py_ssize_t stack;    /* how much stack a thread must have, in bytes */
    double idle_seconds;
    const char *memory; /* the module's */
    const void *shared; /* its wasmtime_sharedmemory_t, which knows the size */
} IdleCallers;

extern PyTypeObject *gt_idle_callers_type;
/* Makes room for more callers. The lock is held. 0, or -1 if there is no memory. */
int gt_grow_idle(IdleCallers *idle);
/* Drops a caller for which there was no room, and sets MemoryError. -1. */
int gt_lose_caller(Caller *caller);

/* The next two are inlined, since each short call needs them: as functions they cost a request 4 %. */

/* Takes the caller on top, at the time `now`; NULL, without an exception, if that is left to Python. */
static inline Caller *gt_take_idle(IdleCallers *idle, double now)
{
    Caller *caller = NULL;
    gt_lock(&idle->lock);
    if (LIKELY(idle->open && idle->count && !gt_load(&idle->passed))) {
        caller = idle->callers[--idle->count];
        caller->since = now;
    }
    gt_unlock(&idle->lock);
    return caller;
}

/* Puts a caller on top, at the time `now`, and takes over the reference. 1: a thread waits for one, or there is an old
   one: the cache's `released` is to be called. -1 with an exception: the caller is lost. */
static inline int gt_put_idle(IdleCallers *idle, Caller *caller, double now)
{
    int failed, look = 0;
    gt_lock(&idle->lock);
    failed = UNLIKELY(idle->count == idle->capacity) && gt_grow_idle(idle);
    if (LIKELY(!failed)) {
        caller->since = now;
        look = idle->count > 0 && idle->callers[0]->since < now - idle->idle_seconds;
        idle->callers[idle->count++] = caller;
        look |= gt_load(&idle->waiting);
    }
    gt_unlock(&idle->lock);
    return LIKELY(!failed) ? look != 0 : gt_lose_caller(caller);
}

/* host_functions.c: what wasmtime calls for a HostFunction, with that object as its data. NULL, with an exception, if it is
   none. */
HostCallback gt_host_callback(PyObject *host);

/* Each file adds its part to the module: 0, or -1 with an exception. */
int gt_add_state(PyObject *module);
int gt_add_wasm_functions(PyObject *module);
int gt_add_callers(PyObject *module);
int gt_add_fast_calls(PyObject *module);
int gt_add_host_functions(PyObject *module);
int gt_add_clock(PyObject *module);
int gt_add_trap_signals(PyObject *module);
int gt_add_interrupt(PyObject *module);
int gt_add_peers(PyObject *module);
int gt_add_scheduler(PyObject *module);
int gt_add_io_table(PyObject *module);
PyTypeObject *gt_add_type(PyObject *module, PyType_Spec *spec, const char *name);
/* Frees an object whose fields have been released: the last step of every tp_dealloc. */
void gt_free_object(PyObject *self);

#pragma GCC visibility pop

#endif
