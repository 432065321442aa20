/* gothreads._fast: calls between Python and a module's instances in C. It does what engine/ffi.py does through ctypes,
   in a tenth of the time.

   The extension is optional: everything works without it, behind the same interface (engine/extension.py). Uncommon
   cases are always left to Python: an argument that is not exactly of the signature's type, an app that is not running,
   a cache without an idle caller. So the rules and the messages are in one place.

   All state of this module is guarded by the GIL, which is released only while a module's code runs and while many
   bytes are copied. wasmtime's functions are passed as addresses (`bind`), since wasmtime-py has loaded them already.

   Uses Python's stable ABI as of 3.11. Vectorcall joined it in 3.12, and 3.11 has it with the same values. */

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

/* The most values of a signature that is called: wasm/abi.py refuses longer ones. */
#define MOST_VALUES 1000
/* The most that is stored of a wasmtime_func_t, in bytes. Its size is 16 in wasmtime 50; Python passes the actual
   size. */
#define FUNC_ROOM 32

/* state.c: what is bound, and the per-thread state. */

extern void *(*func_call_unchecked)(void *context, const void *func, Value *values, size_t count, void **trap);
extern void *(*linker_define_func_unchecked)(void *linker, const char *module, size_t module_size, const char *name, size_t name_size,
                                             const void *type, void *(*callback)(void *, void *, Value *, size_t), void *data,
                                             void (*finalizer)(void *));
extern void *(*trap_new)(const char *message, size_t size);
extern size_t (*sharedmemory_data_size)(const void *memory);

extern PyObject *getframe;      /* sys._getframe */
extern PyObject *trapped_type;  /* ffi.Trapped */
extern PyObject *describe;      /* ffi: (error's address, trap's address) -> exception */

/* interrupt.c: signal handlers while the main thread is in a call (engine/interrupt.py). All of this is for the main
   thread only. */

extern PyObject *main_calls;        /* interrupt.calls */
extern unsigned long main_thread;
extern int kept;                    /* a handler's exception is kept, to be raised when the call has returned */
extern int handlers_known;          /* every handler is known to be held; 0: they must be checked */
extern unsigned long long serial;   /* how many calls the main thread has begun in C */
extern double next_look;            /* when its next call must check the wakeup descriptor, in monotonic seconds */

/* Call before gothreads' own code runs in a call: runs the handlers of pending signals, and holds all handlers. */
void hold_handlers(void);
/* Bracket the program's code in a call. begin_program returns -1 with an exception: then the code must not run. */
int begin_program(void);
void end_program(void);
/* Call when a call has returned: -1 with the kept exception, if it is to be raised now. */
int raise_kept(void);

/* Of the thread: how many calls deep in WebAssembly it is (depth); its stack in bytes, 0 if unknown (room); and whether
   it is the main thread: 1 or -1, 0 if unknown (is_main). */
extern THREAD_LOCAL Py_ssize_t depth;
extern THREAD_LOCAL double looked; /* when its Python stack was last checked, in seconds of the monotonic clock */
extern THREAD_LOCAL Py_ssize_t room;
extern THREAD_LOCAL signed char is_main;

static inline int on_main_thread(void)
{
    if (UNLIKELY(!is_main))
        is_main = PyThread_get_thread_ident() == main_thread ? 1 : -1;
    return is_main > 0;
}

#if defined(__APPLE__)
#define FINE_CLOCK CLOCK_UPTIME_RAW /* the one that Python uses */
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

/* The same, but up to a few milliseconds behind: it costs a quarter as much. */
static inline double coarse_now(void)
{
    return seconds_of(COARSE_CLOCK);
}

/* values.c: a letter for each type, as in module struct: i I q Q f d; and ? for a bool. */

/* 1: the converted object is in *value. 0: the object is not exactly of that type and range; no exception is set. */
int from_python(char kind, PyObject *object, Value *value);
/* Converts a raw value: a number of the right size, whatever its sign. 1, or 0 with an exception. */
int raw_from_python(char kind, PyObject *object, Value *value);
PyObject *to_python(char kind, const Value *value);
/* Copies a string of type letters; -1 with an exception if it has other characters, or is too long. */
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

/* Runs it without the GIL. 0, or -1 with `*error` and `*trap` for `described`. */
int enter(Function *function, Value *values, void **error, void **trap);
/* The exception for an error or trap; NULL, with an exception set, if it cannot be made. */
PyObject *described(void *error, void *trap);

/* callers.c: a caller's slot, a caller (the bases of bridge.buffers.Buffers and callback_m.CallbackM), and the idle
   callers. */

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
    Caller **callers; /* the oldest first */
    Py_ssize_t count, room;
    /* C calls its `released` if a thread waits or a caller is old, its `release` if there are too many callers, and its
       `trapped` after a trap. */
    PyObject *cache;
    PyObject *around; /* interrupt.Postponed, for calls of the main thread; or None */
    char open;        /* the app is running and accepts calls */
    int waiting, passed, over;
    Py_ssize_t stack; /* how much stack a thread must have, in bytes */
    double idle_seconds;
    const char *memory;       /* the module's */
    const void *shared;       /* its wasmtime_sharedmemory_t, which knows the size */
} Rest;

extern PyTypeObject *Rest_Type;
/* Puts a caller on top. 0, and then it takes over the reference; or -1 with an exception. */
int Rest_push(Rest *self, Caller *caller);

/* Each file adds its part to the module: 0, or -1 with an exception. */
int add_state(PyObject *module);
int add_function(PyObject *module);
int add_callers(PyObject *module);
int add_calls(PyObject *module);
int add_host(PyObject *module);
int add_clock(PyObject *module);
int add_signals(PyObject *module);
int add_interrupt(PyObject *module);
PyTypeObject *add_type(PyObject *module, PyType_Spec *spec, const char *name);
/* Frees an object whose fields have been released: the last step of every tp_dealloc. */
void free_object(PyObject *self);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
