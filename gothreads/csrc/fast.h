/* gothreads._fast: calls between Python and a module's instances, in C: the same as engine/ffi.py does through ctypes, for a tenth of the time.

   Optional: without it everything works, behind the same interface (engine/extension.py). What is unusual is left to Python in any case: an argument
   that is not simply what the signature says, an app that does not run, a cache without an idle caller. So the rules, and the messages, stand
   in one place.

   All state of this module is guarded by Python's lock (the GIL), which is let go of only while a module's code runs, and while many bytes are
   copied. wasmtime's functions come as addresses (`bind`): wasmtime-py has loaded them already.

   Python's stable ABI, as of 3.11; vectorcall, which became part of it in 3.12, is in 3.11 under the same number. */

#ifndef GOTHREADS_FAST_H
#define GOTHREADS_FAST_H

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#if !defined(Py_TPFLAGS_HAVE_VECTORCALL)
#define Py_TPFLAGS_HAVE_VECTORCALL (1UL << 11)
typedef PyObject *(*vectorcallfunc)(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames);
PyAPI_FUNC(PyObject *) PyVectorcall_Call(PyObject *callable, PyObject *tuple, PyObject *dict);
PyAPI_FUNC(PyObject *) PyObject_Vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames);
#endif
#define VECTORCALL_OFFSET ((size_t)1 << (8 * sizeof(size_t) - 1)) /* PY_VECTORCALL_ARGUMENTS_OFFSET */

#if defined(__GNUC__)
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define THREAD_LOCAL __thread
#else
#define LIKELY(x) (x)
#define UNLIKELY(x) (x)
#define THREAD_LOCAL _Thread_local
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/* wasmtime_val_raw_t. */
typedef union {
    int32_t i32;
    uint32_t u32;
    int64_t i64;
    uint64_t u64;
    float f32;
    double f64;
    uint8_t v128[16];
} Value;

/* More values than any signature that is called has: wasm/abi.py refuses others. */
#define MOST_VALUES 1000
/* sizeof(wasmtime_func_t) is 16 in wasmtime 50; Python says what it is, and this is the most that is stored. */
#define FUNC_ROOM 32

/* state.c: what is bound, and what is known of the thread. */

extern void *(*func_call_unchecked)(void *context, const void *func, Value *values, size_t count, void **trap);
extern void *(*linker_define_func_unchecked)(void *linker, const char *module, size_t module_size, const char *name, size_t name_size,
                                             const void *type, void *(*callback)(void *, void *, Value *, size_t), void *data,
                                             void (*finalizer)(void *));
extern void *(*trap_new)(const char *message, size_t size);
extern size_t (*sharedmemory_data_size)(const void *memory);

extern PyObject *getframe;      /* sys._getframe */
extern PyObject *trapped_type;  /* ffi.Trapped */
extern PyObject *describe;      /* ffi: (error's address, trap's address) -> exception */

/* interrupt.c: signal handlers while the main thread is in a call (engine/interrupt.py). All of it is for the main thread. */

extern PyObject *main_calls;        /* interrupt.calls */
extern unsigned long main_thread;
extern int kept;                    /* a handler has raised, and that is to be raised when the call has come back */
extern int handlers_known;          /* every handler is held; 0: somebody must look */
extern unsigned long long serial;   /* how many calls of C's the main thread has begun */
extern double next_look;            /* when its next call is to look after the wakeup descriptor */

/* Before gothreads' own code runs in a call: runs the handlers of signals that have come, and holds all. */
void hold_handlers(void);
/* Around the program's code in a call. -1 with an exception: it must not run. */
int begin_program(void);
void end_program(void);
/* A call has come back: -1 with what is kept, if that is to be raised now. */
int raise_kept(void);

/* How deep in WebAssembly the thread is; how much of it it has room for, in bytes (0: not known); whether it is the main one (0: not known). */
extern THREAD_LOCAL Py_ssize_t depth;
extern THREAD_LOCAL double looked; /* when its Python stack was looked at, in seconds of the monotonic clock */
extern THREAD_LOCAL Py_ssize_t room;
extern THREAD_LOCAL signed char is_main;

static inline int on_main_thread(void)
{
    if (UNLIKELY(!is_main))
        is_main = PyThread_get_thread_ident() == main_thread ? 1 : -1;
    return is_main > 0;
}

#if defined(__APPLE__)
#define FINE_CLOCK CLOCK_UPTIME_RAW /* as Python's */
#define COARSE_CLOCK CLOCK_UPTIME_RAW
#else
#define FINE_CLOCK CLOCK_MONOTONIC
#if defined(CLOCK_MONOTONIC_COARSE)
#define COARSE_CLOCK CLOCK_MONOTONIC_COARSE
#else
#define COARSE_CLOCK CLOCK_MONOTONIC
#endif
#endif

static inline double seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* time.monotonic() */
static inline double fine_now(void)
{
    return seconds_of(FINE_CLOCK);
}

/* The same, a few milliseconds behind at the most: a quarter of its price. */
static inline double coarse_now(void)
{
    return seconds_of(COARSE_CLOCK);
}

/* values.c: a letter each, as in module struct: i I q Q f d; and ? for a bool. */

/* 1: it is in *value. 0: it is not simply that; no exception is set. */
int from_python(char kind, PyObject *object, Value *value);
/* A number that is already what the module gets: of the right size, whatever its sign. 0 with an exception. */
int raw_from_python(char kind, PyObject *object, Value *value);
PyObject *to_python(char kind, const Value *value);
/* Copies letters; -1 with an exception when they are none. */
int letters(PyObject *text, char **copy, Py_ssize_t *count);

/* function.c: an exported function of one instance. */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    void *context;
    char *params;
    Py_ssize_t count; /* of parameters */
    char result;      /* 0: none */
    uint64_t func[FUNC_ROOM / 8];
} Function;

/* Runs it with Python's lock let go of. 0, or -1 with `*error` and `*trap` to be described. */
int enter(Function *function, Value *values, void **error, void **trap);
/* The exception for these two; NULL with another. */
PyObject *described(void *error, void *trap);

/* callers.c: a caller's slot, a caller (the bases of slot.Slot and callback_m.CallbackM), and the callers at rest. */

typedef struct {
    PyObject_HEAD
    unsigned int address; /* in the module; 0: not opened yet */
    long long requests;   /* begun since it was opened; Go counts them too */
} Slot;

typedef struct {
    PyObject_HEAD
    PyObject *functions; /* name -> Function */
    PyObject *slot;      /* a Slot; NULL until it is set */
    double since;        /* when it was taken, or put back, in seconds of the monotonic clock */
    long long calls;
} Caller;

typedef struct {
    PyObject_HEAD
    Caller **callers; /* the oldest first */
    Py_ssize_t count, room;
    PyObject *cache;  /* told with `released` when somebody waits, or one is old; `release`s where there are too many; and `trapped` */
    PyObject *around; /* interrupt.Postponed, for calls of the main thread; None: none */
    char open;        /* the app runs, and takes calls */
    int waiting, passed, over;
    Py_ssize_t stack; /* what a thread must have, in bytes */
    double idle_seconds;
    const char *memory;       /* the module's */
    const void *shared;       /* wasmtime_sharedmemory_t, which knows its size */
} Rest;

extern PyTypeObject *Rest_Type;
/* Puts a caller on top; takes the reference, when it is 0. */
int Rest_push(Rest *self, Caller *caller);

/* Each file adds what it has to the module: 0, or -1. */
int add_state(PyObject *module);
int add_function(PyObject *module);
int add_callers(PyObject *module);
int add_calls(PyObject *module);
int add_host(PyObject *module);
int add_clock(PyObject *module);
int add_signals(PyObject *module);
int add_interrupt(PyObject *module);
PyTypeObject *add_type(PyObject *module, PyType_Spec *spec, const char *name);
/* What is left of an object, whose fields have been let go of: the end of every tp_dealloc. */
void free_object(PyObject *self);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
