/* The table of a module's descriptors (io.h), as Python sees it: wasi/native_io.py. */

#include "io.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

static PyTypeObject *IoTable_type, *Call_type;

/* The entries are mapped: pages that nobody uses take no memory. malloc would soon take them from its heap, write zeros
   into all of them, and keep the memory. */
#define ENTRIES_SIZE (GT_IO_NUMBERS * sizeof(_Atomic uint64_t))

/* Numbers. */

static int take_number(IoTable *table, int is_socket, uint32_t *number)
{
    uint32_t words = GT_IO_FIRST_SOCKET / 64, first = is_socket ? words : 0, place;
    int found = 0;
    pthread_mutex_lock(&table->numbers_lock);
    for (place = table->lowest[is_socket]; place < first + words && table->used[place] == UINT64_MAX; place++)
        ;
    table->lowest[is_socket] = place;
    if (place < first + words) {
        *number = place * 64 + (uint32_t)__builtin_ctzll(~table->used[place]);
        table->used[place] |= (uint64_t)1 << *number % 64;
        found = 1;
    }
    pthread_mutex_unlock(&table->numbers_lock);
    return found;
}

static void give_number(IoTable *table, uint32_t number)
{
    int is_socket = number >= GT_IO_FIRST_SOCKET;
    pthread_mutex_lock(&table->numbers_lock);
    table->used[number / 64] &= ~((uint64_t)1 << number % 64);
    if (number / 64 < table->lowest[is_socket])
        table->lowest[is_socket] = number / 64;
    pthread_mutex_unlock(&table->numbers_lock);
}

static int add_to_count(IoTable *table)
{
    if (atomic_fetch_add(&table->counted, 1) < table->most)
        return 1;
    atomic_fetch_sub(&table->counted, 1);
    return 0;
}

int gt_io_take(IoTable *table, int is_socket, uint32_t *number)
{
    if (!add_to_count(table))
        return -1;
    if (take_number(table, is_socket, number))
        return 0;
    atomic_fetch_sub(&table->counted, 1);
    return -1;
}

void gt_io_give(IoTable *table, uint32_t number)
{
    give_number(table, number);
    atomic_fetch_sub(&table->counted, 1);
}

/* Entries. */

int gt_io_own(IoTable *table, uint32_t number, int descriptor, uint64_t flags)
{
    if ((uint64_t)descriptor >= GT_IO_DESCRIPTOR) {
        close(descriptor);
        return EMFILE;
    }
    /* The entry has no descriptor; threads that are about to find that out may be counted in it. */
    atomic_fetch_add(&table->entries[number], (uint64_t)(descriptor + 1) | GT_IO_OWNED | flags);
    return 0;
}

int gt_io_take_fresh(IoTable *table, uint32_t number)
{
    uint64_t word = atomic_load(&table->entries[number]);
    do {
        if (!(word & GT_IO_FRESH))
            return 0;
    } while (!atomic_compare_exchange_weak(&table->entries[number], &word, (word & ~GT_IO_FRESH) | GT_IO_NETWORK));
    return 1;
}

/* Waits until nobody uses an entry, whose descriptor was cleared. */
static void wait_for_users(_Atomic uint64_t *entry)
{
    struct timespec pause = {.tv_nsec = 50000};
    int tries;
    for (tries = 0; atomic_load(entry) != 0; tries++)
        if (tries < 100)
            sched_yield();
        else
            nanosleep(&pause, NULL); /* a call on a file may wait for a disk */
}

/* fd_close(fd) of what C owns. */
static void *fd_close(void *data, void *caller, Value *values, size_t count)
{
    IoTable *table = gt_io_table(data);
    uint32_t number = values[0].u32;
    uint64_t word = number < GT_IO_NUMBERS ? atomic_load(&table->entries[number]) : 0;
    do {
        if (!(word & GT_IO_OWNED))
            return gt_io_fall_back(data, caller, values, count);
    } while (!atomic_compare_exchange_weak(&table->entries[number], &word, word & ~(GT_IO_USER - 1)));
    wait_for_users(&table->entries[number]);
    close((int)(word & GT_IO_DESCRIPTOR) - 1);
    gt_io_give(table, number);
    return gt_io_result(table, values, 0);
}

static void close_owned(IoTable *table)
{
    uint32_t number;
    uint64_t word;
    for (number = 0; table->entries != NULL && number < GT_IO_NUMBERS; number++) {
        if (number % 64 == 0 && table->used[number / 64] == 0) {
            number += 63;
            continue;
        }
        word = atomic_load(&table->entries[number]);
        if (word & GT_IO_OWNED) {
            atomic_store(&table->entries[number], 0);
            close((int)(word & GT_IO_DESCRIPTOR) - 1);
            gt_io_give(table, number);
        }
    }
}

/* Methods for Python. */

static int number_of(PyObject *args, const char *format, unsigned int *number)
{
    if (!PyArg_ParseTuple(args, format, number))
        return 0;
    if (*number < GT_IO_NUMBERS)
        return 1;
    PyErr_SetString(PyExc_IndexError, "IoTable: no such number");
    return 0;
}

/* IoTable(most, beneath, errnos, stop, peers, memory, shared): `most`: how many descriptors; `errnos` has WASI's number
   for each error number of the system, `stop` is a descriptor that is readable when the app has ended. */
static PyObject *IoTable_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    unsigned long long memory, shared;
    Py_ssize_t most, size;
    const char *errnos;
    PyObject *peers;
    IoTable *self;
    int stop, beneath;
    if (kwargs != NULL && PyDict_Size(kwargs) != 0) {
        PyErr_SetString(PyExc_TypeError, "IoTable takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "npy#iOKK:IoTable", &most, &beneath, &errnos, &size, &stop, &peers, &memory, &shared)
        || gt_peers_of(peers) == NULL)
        return NULL;
    self = (IoTable *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    Py_INCREF(peers);
    self->peers = gt_peers_of(peers);
    self->epoll = self->wake = -1;
    pthread_mutex_init(&self->lock, NULL);
    pthread_mutex_init(&self->numbers_lock, NULL);
    self->memory = (char *)(uintptr_t)memory;
    self->shared = (const void *)(uintptr_t)shared;
    self->beneath = beneath;
    self->lowest[1] = GT_IO_FIRST_SOCKET / 64;
    if (size != sizeof self->errnos || most < 0) {
        PyErr_SetString(PyExc_ValueError, "IoTable: a wrong size");
        goto failed;
    }
    self->most = (size_t)most;
    memcpy(self->errnos, errnos, sizeof self->errnos);
    self->entries = mmap(NULL, ENTRIES_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                         0);
    if ((void *)self->entries == MAP_FAILED)
        self->entries = NULL;
    self->used = calloc(GT_IO_NUMBERS / 64, sizeof *self->used);
    if (self->entries == NULL || self->used == NULL) {
        PyErr_NoMemory();
        goto failed;
    }
    if (gt_io_open_poller(self, stop)) {
        PyErr_SetFromErrno(PyExc_OSError);
        goto failed;
    }
    return (PyObject *)self;
failed:
    Py_DECREF((PyObject *)self);
    return NULL;
}

static void IoTable_dealloc(PyObject *object)
{
    IoTable *self = (IoTable *)object;
    gt_io_close_poller(self);
    if (self->entries != NULL && self->used != NULL)
        close_owned(self);
    if (self->entries != NULL)
        munmap((void *)self->entries, ENTRIES_SIZE);
    free(self->used);
    free(self->injected);
    Py_XDECREF((PyObject *)self->peers);
    pthread_mutex_destroy(&self->lock);
    pthread_mutex_destroy(&self->numbers_lock);
    gt_free_object(object);
}

/* take(is_socket) -> the lowest free number, or None */
static PyObject *take(PyObject *object, PyObject *args)
{
    int is_socket;
    uint32_t number;
    if (!PyArg_ParseTuple(args, "p:take", &is_socket))
        return NULL;
    if (take_number((IoTable *)object, is_socket, &number))
        return PyLong_FromUnsignedLong(number);
    Py_RETURN_NONE;
}

/* use(number): it is in use from now on. */
static PyObject *use(PyObject *object, PyObject *args)
{
    IoTable *self = (IoTable *)object;
    unsigned int number;
    if (!number_of(args, "I:use", &number))
        return NULL;
    pthread_mutex_lock(&self->numbers_lock);
    self->used[number / 64] |= (uint64_t)1 << number % 64;
    pthread_mutex_unlock(&self->numbers_lock);
    Py_RETURN_NONE;
}

static PyObject *give(PyObject *object, PyObject *args)
{
    unsigned int number;
    if (!number_of(args, "I:give", &number))
        return NULL;
    give_number((IoTable *)object, number);
    Py_RETURN_NONE;
}

static PyObject *count_one(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(add_to_count((IoTable *)object));
}

static PyObject *uncount(PyObject *object, PyObject *unused)
{
    (void)unused;
    atomic_fetch_sub(&((IoTable *)object)->counted, 1);
    Py_RETURN_NONE;
}

/* publish(number, descriptor, flags): calls with this number are served here. */
static PyObject *publish(PyObject *object, PyObject *args)
{
    IoTable *self = (IoTable *)object;
    unsigned int number;
    int descriptor;
    unsigned long long flags;
    if (!PyArg_ParseTuple(args, "IiK:publish", &number, &descriptor, &flags))
        return NULL;
    if (number >= GT_IO_NUMBERS || descriptor < 0 || flags & (GT_IO_DESCRIPTOR | GT_IO_OWNED) || flags >= GT_IO_USER) {
        PyErr_SetString(PyExc_ValueError, "IoTable.publish");
        return NULL;
    }
    if ((uint64_t)descriptor < GT_IO_DESCRIPTOR)
        atomic_fetch_add(&self->entries[number], (uint64_t)(descriptor + 1) | flags);
    Py_RETURN_NONE;
}

/* retire(number, descriptor): no call with this number is served here, or is still being served, when it returns. */
static PyObject *retire(PyObject *object, PyObject *args)
{
    IoTable *self = (IoTable *)object;
    unsigned int number;
    int descriptor;
    _Atomic uint64_t *entry;
    struct epoll_event event;
    if (!PyArg_ParseTuple(args, "Ii:retire", &number, &descriptor))
        return NULL;
    if (number < GT_IO_NUMBERS) {
        entry = &self->entries[number];
        if ((atomic_fetch_and(entry, ~(GT_IO_USER - 1)) & (GT_IO_USER - 1)) != 0 && atomic_load(entry) != 0) {
            Py_BEGIN_ALLOW_THREADS
            wait_for_users(entry);
            Py_END_ALLOW_THREADS
        }
    }
    if (self->epoll >= 0)
        epoll_ctl(self->epoll, EPOLL_CTL_DEL, descriptor, &event); /* if it is polled */
    Py_RETURN_NONE;
}

/* claim(number) -> (descriptor, flags) of what C owned, and Python owns from now on; None if C does not own it. */
static PyObject *claim(PyObject *object, PyObject *args)
{
    IoTable *self = (IoTable *)object;
    unsigned int number;
    uint64_t word;
    if (!PyArg_ParseTuple(args, "I:claim", &number))
        return NULL;
    word = number < GT_IO_NUMBERS ? atomic_load(&self->entries[number]) : 0;
    do {
        if (!(word & GT_IO_OWNED))
            Py_RETURN_NONE;
    } while (!atomic_compare_exchange_weak(&self->entries[number], &word, word & ~(GT_IO_OWNED | GT_IO_FRESH)));
    return Py_BuildValue("iK", (int)(word & GT_IO_DESCRIPTOR) - 1,
                         (unsigned long long)(word & (GT_IO_USER - 1) & ~(GT_IO_DESCRIPTOR | GT_IO_OWNED)));
}

/* watch(descriptor, poll_desc, sequence): for descriptors that are not published. Raises OSError. */
static PyObject *watch(PyObject *object, PyObject *args)
{
    unsigned int poll_desc, sequence;
    int descriptor, failure;
    if (!PyArg_ParseTuple(args, "iII:watch", &descriptor, &poll_desc, &sequence))
        return NULL;
    failure = gt_io_watch((IoTable *)object, descriptor, poll_desc, sequence);
    if (failure) {
        errno = failure;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *inject(PyObject *object, PyObject *args)
{
    Event event;
    if (!PyArg_ParseTuple(args, "III:inject", &event.poll_desc, &event.sequence, &event.mode))
        return NULL;
    if (gt_io_inject((IoTable *)object, event))
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *close_all(PyObject *object, PyObject *unused)
{
    (void)unused;
    close_owned((IoTable *)object);
    Py_RETURN_NONE;
}

static PyObject *close_poller(PyObject *object, PyObject *unused)
{
    (void)unused;
    gt_io_close_poller((IoTable *)object);
    Py_RETURN_NONE;
}

static const IoFunction own_functions[] = {{"fd_close", fd_close}, {NULL, NULL}};

static HostCallback function_of(const char *name)
{
    const IoFunction *const all[] = {own_functions, gt_socket_functions, gt_file_functions, gt_folder_functions,
                                     gt_poll_functions};
    const IoFunction *one;
    size_t place;
    for (place = 0; place < sizeof all / sizeof *all; place++)
        for (one = all[place]; one->name != NULL; one++)
            if (strcmp(one->name, name) == 0)
                return one->run;
    return NULL;
}

/* define(linker, module, name, type, fallback): define a function that is served here, by its name. `fallback` is a
   HostFunction, or None. Returns (an object that must live as long as the linker is used, an error's address or 0). */
static PyObject *define(PyObject *object, PyObject *args)
{
    unsigned long long linker, type;
    const char *module, *name;
    Py_ssize_t module_size, name_size;
    HostCallback run;
    PyObject *fallback;
    IoCall *call;
    void *error;
    if (!PyArg_ParseTuple(args, "Ks#s#KO:define", &linker, &module, &module_size, &name, &name_size, &type, &fallback))
        return NULL;
    run = function_of(name);
    if (run == NULL) {
        PyErr_SetString(PyExc_ValueError, name);
        return NULL;
    }
    call = (IoCall *)PyType_GenericAlloc(Call_type, 0);
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
                                            (size_t)name_size, (void *)(uintptr_t)type, run, call, NULL);
    return Py_BuildValue("NK", (PyObject *)call, (unsigned long long)(uintptr_t)error);
}

static int Call_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((IoCall *)self)->table);
    Py_VISIT(((IoCall *)self)->fallback_object);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int Call_clear(PyObject *self)
{
    Py_CLEAR(((IoCall *)self)->table);
    Py_CLEAR(((IoCall *)self)->fallback_object);
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
    {Py_tp_doc, "A host function that an IoTable serves. It must live as long as the linker that has it is in use."},
    {0, NULL},
};
static PyType_Spec Call_spec = {
    "gothreads._fast.IoCall", sizeof(IoCall), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
    | Py_TPFLAGS_DISALLOW_INSTANTIATION, Call_slots,
};

static PyMethodDef IoTable_methods[] = {
    {"take", take, METH_VARARGS,
     "take(is_socket)\n\nThe lowest free number, which is in use from now on. None if there is none."},
    {"use", use, METH_VARARGS, "use(number)\n\nThe number is in use from now on."},
    {"give", give, METH_VARARGS, "give(number)\n\nThe number is free from now on."},
    {"count", count_one, METH_NOARGS, "count()\n\nCount a descriptor. False if there would be too many."},
    {"uncount", uncount, METH_NOARGS, "uncount()\n\nCount one less."},
    {"publish", publish, METH_VARARGS, "publish(number, descriptor, flags)\n\nServe calls with this number here."},
    {"retire", retire, METH_VARARGS,
     "retire(number, descriptor)\n\nServe no calls with this number any more. None is under way when it returns."},
    {"claim", claim, METH_VARARGS,
     "claim(number)\n\n(descriptor, flags) of a descriptor that the table has opened, and the caller owns from now on; or\n"
     "None."},
    {"watch", watch, METH_VARARGS,
     "watch(descriptor, poll_desc, sequence)\n\nReport the events of a descriptor that is not published."},
    {"inject", inject, METH_VARARGS, "inject(poll_desc, sequence, mode)\n\nReport an event."},
    {"close_all", close_all, METH_NOARGS,
     "close_all()\n\nClose the descriptors that it has opened. No thread may be in the module."},
    {"close_poller", close_poller, METH_NOARGS, "close_poller()\n\nClose the poller. No thread may be in the module."},
    {"define", define, METH_VARARGS,
     "define(linker, module, name, type, fallback)\n\nDefine a host function that is served here. Returns an object that\n"
     "must live as long as the linker is in use, and an error's address or 0."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot IoTable_slots[] = {
    {Py_tp_new, IoTable_new},
    {Py_tp_dealloc, IoTable_dealloc},
    {Py_tp_methods, IoTable_methods},
    {Py_tp_doc, "IoTable(most, beneath, errnos, stop, peers, memory, shared)\n\n"
                "The descriptors of a module, and its poller."},
    {0, NULL},
};
static PyType_Spec IoTable_spec = {
    "gothreads._fast.IoTable", sizeof(IoTable), 0, Py_TPFLAGS_DEFAULT, IoTable_slots,
};

int gt_add_io_table(PyObject *module)
{
    IoTable_type = gt_add_type(module, &IoTable_spec, "IoTable");
    Call_type = gt_add_type(module, &Call_spec, "IoCall");
    return IoTable_type == NULL || Call_type == NULL ? -1 : 0;
}
