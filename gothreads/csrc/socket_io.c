/* The sockets of a module, and its poller, without Python: reading, writing and waiting take no GIL. wasi/poller.py has
   the poller in Python, and wasi/descriptors.py the rest.

   Python owns the descriptors. It publishes the host descriptor of a socket under the socket's number in the module, and
   retires it before it closes it. An entry of the table is one word: the host descriptor plus one (0: none) below, the
   number of threads that use it above. A thread counts itself first, and then looks at the descriptor in the word that
   it found; `retire` clears the descriptor first, and then waits until nobody is counted. So a descriptor that a thread
   uses is not closed, nor its number in the host reused, meanwhile. Threads only make calls that do not wait, so
   `retire` ends soon.

   What is not here goes to the Python function that `fallback` calls: other descriptors, sockets in blocking mode. */

#include "fast.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if !defined(SYS_epoll_pwait2)
#define SYS_epoll_pwait2 441
#endif

static PyTypeObject *SocketTable_type, *Call_type;

/* As Go has it (build/goroot/runtime/netpoll_gothreads.go). */
typedef struct {
    uint32_t poll_desc, sequence, mode;
} Event;

enum { MODE_READ = 1, MODE_WRITE = 2 };
/* In an epoll event, instead of a pollDesc: the eventfd, and the descriptor that is readable when the app has ended. */
#define WAKE ((uint64_t)0)
#define STOP UINT64_MAX
enum { MOST_EVENTS = 128 };
#define USER ((uint64_t)1 << 32)

typedef struct {
    PyObject_HEAD
    char *memory;
    const void *shared; /* the memory's wasmtime_sharedmemory_t, which knows its size */
    uint8_t errnos[256]; /* WASI's number for each of the system's */
    int epoll, wake;     /* wake: an eventfd, readable when a blocked poll_wait is to return */
    pthread_mutex_t lock; /* guards injected and below */
    Event *injected;      /* events that Python has for Go, without duplicates */
    size_t injected_count, injected_capacity;
    atomic_size_t pending; /* injected_count, to be read without the lock */
    uint32_t first;        /* the number of entries[0] */
    size_t count;
    _Atomic uint64_t *entries;
} SocketTable;

/* A host function: which one, and what it falls back to. */
typedef struct {
    PyObject_HEAD
    PyObject *table, *fallback_object;
    HostCallback fallback;
    void *fallback_data;
} Call;

static uint32_t wasi_errno(const SocketTable *table, int number)
{
    return table->errnos[(unsigned)number < sizeof table->errnos ? (unsigned)number : EIO];
}

/* The host address of `size` bytes at an address of the module, or NULL if they are not all in its memory. */
static char *at(const SocketTable *table, uint32_t address, uint64_t size)
{
    return address + size <= gt_sharedmemory_data_size(table->shared) ? table->memory + address : NULL;
}

/* The host descriptor for a number, which stays open until `leave`; -1 if there is none here. */
static int enter(SocketTable *table, uint32_t number)
{
    uint32_t place = number - table->first, descriptor;
    if (place >= table->count)
        return -1;
    descriptor = (uint32_t)atomic_fetch_add(&table->entries[place], USER);
    if (descriptor == 0)
        atomic_fetch_sub(&table->entries[place], USER);
    return (int)descriptor - 1;
}

static void leave(SocketTable *table, uint32_t number)
{
    atomic_fetch_sub(&table->entries[number - table->first], USER);
}

static void *fall_back(const Call *call, void *caller, Value *values, size_t count)
{
    return call->fallback(call->fallback_data, caller, values, count);
}

/* fd_read and fd_write(fd, vectors, count, done): the first vector only, as WASI permits. Go passes one. */
static void *transfer(void *data, void *caller, Value *values, size_t count, int writing)
{
    Call *call = data;
    SocketTable *table = (SocketTable *)call->table;
    uint32_t number = values[0].u32, address, size;
    char *vector, *bytes, *done;
    ssize_t moved;
    uint32_t moved32;
    int descriptor = values[2].u32 == 0 ? -1 : enter(table, number), failure = 0;
    if (descriptor < 0)
        return fall_back(call, caller, values, count);
    vector = at(table, values[1].u32, 8);
    done = at(table, values[3].u32, 4);
    if (vector == NULL || done == NULL) {
        failure = EFAULT;
    } else {
        memcpy(&address, vector, 4); /* once: other threads may change it */
        memcpy(&size, vector + 4, 4);
        bytes = at(table, address, size);
        if (bytes == NULL) {
            failure = EFAULT;
        } else {
            do
                moved = writing ? send(descriptor, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL)
                                : recv(descriptor, bytes, size, MSG_DONTWAIT);
            while (moved < 0 && errno == EINTR);
            if (moved < 0) {
                failure = errno;
            } else {
                moved32 = (uint32_t)moved;
                memcpy(done, &moved32, 4);
            }
        }
    }
    leave(table, number);
    values[0].u64 = failure ? wasi_errno(table, failure) : 0;
    return NULL;
}

static void *fd_read(void *data, void *caller, Value *values, size_t count)
{
    return transfer(data, caller, values, count, 0);
}

static void *fd_write(void *data, void *caller, Value *values, size_t count)
{
    return transfer(data, caller, values, count, 1);
}

/* Reports a descriptor's events to a pollDesc from now on: first what is the case now. 0, or an error number. */
static int watch(SocketTable *table, int descriptor, uint32_t poll_desc, uint32_t sequence)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.u64 = (uint64_t)sequence << 32 | poll_desc};
    if (epoll_ctl(table->epoll, EPOLL_CTL_ADD, descriptor, &event) == 0)
        return 0;
    if (errno == EEXIST && epoll_ctl(table->epoll, EPOLL_CTL_MOD, descriptor, &event) == 0)
        return 0;
    return errno;
}

/* poll_open(fd, poll_desc, sequence) */
static void *poll_open(void *data, void *caller, Value *values, size_t count)
{
    Call *call = data;
    SocketTable *table = (SocketTable *)call->table;
    uint32_t number = values[0].u32;
    int descriptor = enter(table, number), failure;
    if (descriptor < 0)
        return fall_back(call, caller, values, count);
    failure = watch(table, descriptor, values[1].u32, values[2].u32);
    leave(table, number);
    values[0].u64 = failure ? wasi_errno(table, failure) : 0;
    return NULL;
}

static void wake(SocketTable *table)
{
    uint64_t one = 1;
    while (table->wake >= 0 && write(table->wake, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

/* poll_break() */
static void *poll_break(void *data, void *caller, Value *values, size_t count)
{
    (void)caller;
    (void)values;
    (void)count;
    wake((SocketTable *)((Call *)data)->table);
    return NULL;
}

static int wait_for(SocketTable *table, struct epoll_event *events, int most, int64_t nanoseconds)
{
    static atomic_int unsupported; /* epoll_pwait2: Linux 5.11 */
    struct timespec limit = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    int found;
    if (nanoseconds <= 0)
        return epoll_wait(table->epoll, events, most, nanoseconds < 0 ? -1 : 0);
    if (!atomic_load(&unsupported)) {
        found = (int)syscall(SYS_epoll_pwait2, table->epoll, events, most, &limit, NULL, 0);
        if (found >= 0 || errno != ENOSYS)
            return found;
        atomic_store(&unsupported, 1);
    }
    nanoseconds = (nanoseconds + 999999) / 1000000;
    return epoll_wait(table->epoll, events, most, nanoseconds > INT32_MAX ? INT32_MAX : (int)nanoseconds);
}

static uint32_t mode_of(uint32_t events)
{
    /* As in Go's netpoll_epoll.go: a hang-up or an error is readable and writable, and reading or writing then tells. */
    uint32_t mode = 0;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        mode |= MODE_READ;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        mode |= MODE_WRITE;
    return mode;
}

/* poll_wait(nanoseconds, events, most) -> how many. Waits for ever if nanoseconds is negative, not at all if it is 0. */
static void *poll_wait(void *data, void *caller, Value *values, size_t count)
{
    SocketTable *table = (SocketTable *)((Call *)data)->table;
    struct epoll_event ready[MOST_EVENTS];
    Event events[MOST_EVENTS];
    int64_t nanoseconds = values[0].i64;
    uint32_t address = values[1].u32, most = values[2].u32, made = 0;
    uint64_t counted;
    size_t taken;
    char *to;
    int found, place;
    (void)caller;
    (void)count;
    if (most > MOST_EVENTS)
        most = MOST_EVENTS;
    to = at(table, address, (uint64_t)most * sizeof *events);
    if (to == NULL || most == 0)
        return gt_trap_new("poll_wait: out of the module's memory", 37);
    found = wait_for(table, ready, (int)most, atomic_load(&table->pending) ? 0 : nanoseconds);
    for (place = 0; place < found; place++) { /* -1: EINTR, and Go looks again */
        if (ready[place].data.u64 == STOP)
            return gt_trap_new("stopped", 7);
        if (ready[place].data.u64 == WAKE) {
            /* Left to a poll_wait that waits: it is its wake-up. */
            if (nanoseconds != 0)
                while (read(table->wake, &counted, sizeof counted) < 0 && errno == EINTR)
                    ;
            continue;
        }
        events[made].poll_desc = (uint32_t)ready[place].data.u64;
        events[made].sequence = (uint32_t)(ready[place].data.u64 >> 32);
        events[made++].mode = mode_of(ready[place].events);
    }
    if (atomic_load(&table->pending)) {
        pthread_mutex_lock(&table->lock);
        taken = table->injected_count < most - made ? table->injected_count : most - made;
        memcpy(events + made, table->injected, taken * sizeof *events);
        table->injected_count -= taken;
        memmove(table->injected, table->injected + taken, table->injected_count * sizeof *events);
        atomic_store(&table->pending, table->injected_count);
        pthread_mutex_unlock(&table->lock);
        made += (uint32_t)taken;
    }
    memcpy(to, events, made * sizeof *events);
    values[0].u64 = made;
    return NULL;
}

/* Methods for Python. */

/* SocketTable(first, count, errnos, stop, memory, shared): `errnos` has WASI's number for each error number of the
   system, `stop` is a descriptor that is readable when the app has ended. */
static PyObject *SocketTable_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    unsigned long long memory, shared;
    unsigned int first;
    Py_ssize_t count, size;
    const char *errnos;
    SocketTable *self;
    struct epoll_event woken = {.events = EPOLLIN, .data.u64 = WAKE}, stopped = {.events = EPOLLIN, .data.u64 = STOP};
    int stop;
    if (kwargs != NULL && PyDict_Size(kwargs) != 0) {
        PyErr_SetString(PyExc_TypeError, "SocketTable takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "Iny#iKK:SocketTable", &first, &count, &errnos, &size, &stop,
                          &memory, &shared))
        return NULL;
    self = (SocketTable *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->epoll = self->wake = -1;
    pthread_mutex_init(&self->lock, NULL);
    self->memory = (char *)(uintptr_t)memory;
    self->shared = (const void *)(uintptr_t)shared;
    self->first = first;
    if (size != sizeof self->errnos || count < 0 || count > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "SocketTable: a wrong size");
        goto failed;
    }
    memcpy(self->errnos, errnos, sizeof self->errnos);
    self->entries = calloc((size_t)count + 1, sizeof *self->entries);
    if (self->entries == NULL) {
        PyErr_NoMemory();
        goto failed;
    }
    self->count = (size_t)count;
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    self->wake = self->epoll < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->wake < 0 || epoll_ctl(self->epoll, EPOLL_CTL_ADD, self->wake, &woken)
        || epoll_ctl(self->epoll, EPOLL_CTL_ADD, stop, &stopped)) {
        PyErr_SetFromErrno(PyExc_OSError);
        goto failed;
    }
    return (PyObject *)self;
failed:
    Py_DECREF((PyObject *)self);
    return NULL;
}

static void close_descriptors(SocketTable *self)
{
    if (self->wake >= 0)
        close(self->wake);
    if (self->epoll >= 0)
        close(self->epoll);
    self->wake = self->epoll = -1;
}

static void SocketTable_dealloc(PyObject *object)
{
    SocketTable *self = (SocketTable *)object;
    close_descriptors(self);
    free((void *)self->entries);
    free(self->injected);
    pthread_mutex_destroy(&self->lock);
    gt_free_object(object);
}

/* publish(number, descriptor): calls with this number are served here. */
static PyObject *publish(PyObject *object, PyObject *args)
{
    SocketTable *self = (SocketTable *)object;
    unsigned int number;
    int descriptor;
    if (!PyArg_ParseTuple(args, "Ii:publish", &number, &descriptor))
        return NULL;
    if (number - self->first >= self->count) {
        PyErr_SetString(PyExc_IndexError, "SocketTable: no such number");
        return NULL;
    }
    /* The entry has no descriptor; threads that are about to find that out may be counted in it. */
    atomic_fetch_add(&self->entries[number - self->first], (uint64_t)(uint32_t)(descriptor + 1));
    Py_RETURN_NONE;
}

/* retire(number, descriptor): no call with this number is served here, or is still being served, when it returns. */
static PyObject *retire(PyObject *object, PyObject *args)
{
    SocketTable *self = (SocketTable *)object;
    unsigned int number;
    int descriptor;
    _Atomic uint64_t *entry;
    struct epoll_event event;
    if (!PyArg_ParseTuple(args, "Ii:retire", &number, &descriptor))
        return NULL;
    if (number - self->first < self->count) {
        entry = &self->entries[number - self->first];
        if ((uint32_t)atomic_fetch_and(entry, ~(USER - 1)) != 0 && atomic_load(entry) != 0) {
            Py_BEGIN_ALLOW_THREADS
            while (atomic_load(entry) != 0)
                sched_yield();
            Py_END_ALLOW_THREADS
        }
    }
    if (self->epoll >= 0)
        epoll_ctl(self->epoll, EPOLL_CTL_DEL, descriptor, &event); /* if it is polled */
    Py_RETURN_NONE;
}

/* watch(descriptor, poll_desc, sequence): for descriptors that are not published. Raises OSError. */
static PyObject *watch_other(PyObject *object, PyObject *args)
{
    unsigned int poll_desc, sequence;
    int descriptor, failure;
    if (!PyArg_ParseTuple(args, "iII:watch", &descriptor, &poll_desc, &sequence))
        return NULL;
    failure = watch((SocketTable *)object, descriptor, poll_desc, sequence);
    if (failure) {
        errno = failure;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

/* inject(poll_desc, sequence, mode): adds an event, and wakes a poll_wait that waits. */
static PyObject *inject(PyObject *object, PyObject *args)
{
    SocketTable *self = (SocketTable *)object;
    Event event, *grown;
    size_t place, capacity;
    int failed = 0;
    if (!PyArg_ParseTuple(args, "III:inject", &event.poll_desc, &event.sequence, &event.mode))
        return NULL;
    pthread_mutex_lock(&self->lock);
    for (place = 0; place < self->injected_count; place++)
        if (memcmp(&self->injected[place], &event, sizeof event) == 0)
            break;
    if (place == self->injected_capacity) {
        capacity = place ? 2 * place : 64;
        grown = realloc(self->injected, capacity * sizeof *grown);
        failed = grown == NULL;
        if (!failed) {
            self->injected = grown;
            self->injected_capacity = capacity;
        }
    }
    if (!failed && place == self->injected_count) {
        self->injected[place] = event;
        self->injected_count++;
        atomic_store(&self->pending, self->injected_count);
    }
    pthread_mutex_unlock(&self->lock);
    if (failed)
        return PyErr_NoMemory();
    wake(self);
    Py_RETURN_NONE;
}

/* close(): no thread is in the module any more. */
static PyObject *close_table(PyObject *object, PyObject *unused)
{
    (void)unused;
    close_descriptors((SocketTable *)object);
    Py_RETURN_NONE;
}

/* define(linker, module, name, type, fallback): define a function that is served here, by its name. `fallback` is a
   HostFunction, or None. Returns (an object that must live as long as the linker is used, an error's address or 0). */
static PyObject *define(PyObject *object, PyObject *args)
{
    static const struct {
        const char *name;
        HostCallback run;
    } calls[] = {{"fd_read", fd_read}, {"fd_write", fd_write}, {"poll_open", poll_open}, {"poll_wait", poll_wait},
                 {"poll_break", poll_break}};
    unsigned long long linker, type;
    const char *module, *name;
    Py_ssize_t module_size, name_size;
    size_t place;
    PyObject *fallback;
    Call *call;
    void *error;
    if (!PyArg_ParseTuple(args, "Ks#s#KO:define", &linker, &module, &module_size, &name, &name_size, &type, &fallback))
        return NULL;
    for (place = 0; place < sizeof calls / sizeof *calls; place++)
        if (strcmp(calls[place].name, name) == 0)
            break;
    if (place == sizeof calls / sizeof *calls) {
        PyErr_SetString(PyExc_ValueError, name);
        return NULL;
    }
    call = (Call *)PyType_GenericAlloc(Call_type, 0);
    if (call == NULL)
        return NULL;
    Py_INCREF(object);
    call->table = object;
    if (fallback != Py_None) {
        call->fallback = gt_host_callback(fallback);
        if (call->fallback == NULL) {
            Py_DECREF((PyObject *)call);
            return NULL;
        }
        Py_INCREF(fallback);
        call->fallback_object = call->fallback_data = fallback;
    }
    error = gt_linker_define_func_unchecked((void *)(uintptr_t)linker, module, (size_t)module_size, name,
                                            (size_t)name_size, (void *)(uintptr_t)type, calls[place].run, call, NULL);
    return Py_BuildValue("NK", (PyObject *)call, (unsigned long long)(uintptr_t)error);
}

static int Call_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((Call *)self)->table);
    Py_VISIT(((Call *)self)->fallback_object);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int Call_clear(PyObject *self)
{
    Py_CLEAR(((Call *)self)->table);
    Py_CLEAR(((Call *)self)->fallback_object);
    return 0;
}

static void Call_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Call_clear(self);
    gt_free_object(self);
}

static PyType_Slot Call_slots[] = {
    {Py_tp_dealloc, Call_dealloc},
    {Py_tp_traverse, Call_traverse},
    {Py_tp_clear, Call_clear},
    {Py_tp_doc, "A host function that a SocketTable serves. It must live as long as the linker that has it is in use."},
    {0, NULL},
};
static PyType_Spec Call_spec = {
    "gothreads._fast.SocketCall", sizeof(Call), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
    | Py_TPFLAGS_DISALLOW_INSTANTIATION, Call_slots,
};

static PyMethodDef SocketTable_methods[] = {
    {"publish", publish, METH_VARARGS, "publish(number, descriptor)\n\nServe calls with this number here."},
    {"retire", retire, METH_VARARGS,
     "retire(number, descriptor)\n\nServe no calls with this number any more. None is under way when it returns."},
    {"watch", watch_other, METH_VARARGS,
     "watch(descriptor, poll_desc, sequence)\n\nReport the events of a descriptor that is not published."},
    {"inject", inject, METH_VARARGS, "inject(poll_desc, sequence, mode)\n\nReport an event."},
    {"close", close_table, METH_NOARGS, "close()\n\nClose its descriptors. No thread may be in the module."},
    {"define", define, METH_VARARGS,
     "define(linker, module, name, type, fallback)\n\nDefine a host function that is served here. Returns an object that\n"
     "must live as long as the linker is in use, and an error's address or 0."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot SocketTable_slots[] = {
    {Py_tp_new, SocketTable_new},
    {Py_tp_dealloc, SocketTable_dealloc},
    {Py_tp_methods, SocketTable_methods},
    {Py_tp_doc, "SocketTable(first, count, errnos, stop, memory, shared)\n\nThe sockets of a module, and its poller."},
    {0, NULL},
};
static PyType_Spec SocketTable_spec = {
    "gothreads._fast.SocketTable", sizeof(SocketTable), 0, Py_TPFLAGS_DEFAULT, SocketTable_slots,
};

int gt_add_socket_io(PyObject *module)
{
    SocketTable_type = gt_add_type(module, &SocketTable_spec, "SocketTable");
    Call_type = gt_add_type(module, &Call_spec, "SocketCall");
    return SocketTable_type == NULL || Call_type == NULL ? -1 : 0;
}
