/* A hostile module against the I/O in C (gothreads/csrc/io.h), built with sanitizers: threads that make any call with
   any arguments, over a memory that one of them changes and grows, while another does what Python does with the same
   numbers (publish, retire, claim, change). `python -m stress.fuzz_io` builds and runs it.

   Findings: what a sanitizer reports; a call that does not end; a secret of the host's that is read or written, through
   a number of the module's or a path that leads outside; a descriptor that is left open, or closed twice.

       fuzz_io FOLDER SECONDS SEED THREADS
   FOLDER has `inside`, which the module may see, with links that lead outside; and `secret`. */

#include "io.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE ((size_t)65536)
enum { PAGES = 64, CALLS = 19, NUMBERS = 20, SLOT = 32, SLOTS = 128, PATH_SIZE = 24, SECRET_SIZE = 7 };
static const char SECRET[] = "SECRET!";

/* What the extension has of wasmtime and of its other files. */
TrapNew gt_trap_new;
LinkerDefineFuncUnchecked gt_linker_define_func_unchecked;
SharedMemoryDataSize gt_sharedmemory_data_size;
int gt_add_io_table(PyObject *module);

static char *memory;
static atomic_size_t memory_size = 4 * PAGE;
static atomic_int over, traps;
static atomic_ullong made[CALLS], succeeded[CALLS];
static IoTable *table;
static PyObject *table_object;
static int folder, stop_pipe[2], secret, secret_socket[2];
static struct sockaddr_in address;

static struct {
    const char *name;
    int arguments;
    HostCallback run;
    void *data;
} calls[CALLS] = {
    {"fd_read", 4}, {"fd_write", 4}, {"fd_pread", 5}, {"fd_pwrite", 5}, {"fd_seek", 4}, {"fd_close", 1},
    {"fd_filestat_get", 2}, {"fd_fdstat_get", 2}, {"fd_fdstat_set_flags", 2}, {"path_open", 9},
    {"path_filestat_get", 5}, {"net_accept", 3}, {"net_name", 3}, {"net_getsockopt", 4}, {"net_setsockopt", 5},
    {"net_shutdown", 2}, {"poll_open", 3}, {"poll_wait", 3}, {"poll_break", 0}};

PyTypeObject *gt_add_type(PyObject *module, PyType_Spec *spec, const char *name)
{
    PyObject *type = PyType_FromSpec(spec);
    return type == NULL || PyModule_AddObjectRef(module, name, type) ? NULL : (PyTypeObject *)type;
}

void gt_free_object(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* "In Python": nothing is served. */
static void *fallback(void *data, void *caller, Value *values, size_t count)
{
    (void)data, (void)caller, (void)count;
    values[0].u64 = 999;
    return NULL;
}

HostCallback gt_host_callback(PyObject *host)
{
    (void)host;
    return fallback;
}

static void *trap(const char *message, size_t size)
{
    (void)message, (void)size;
    atomic_fetch_add(&traps, 1);
    return &traps;
}

static size_t size_of_memory(const void *shared)
{
    (void)shared;
    return atomic_load(&memory_size);
}

static int defining;
static void *keep(void *linker, const char *module, size_t module_size, const char *name, size_t name_size,
                  const void *type, HostCallback callback, void *data, void (*finalizer)(void *))
{
    (void)linker, (void)module, (void)module_size, (void)name, (void)name_size, (void)type, (void)finalizer;
    calls[defining].run = callback;
    calls[defining].data = data;
    return NULL;
}

static void fail(const char *what)
{
    fprintf(stderr, "FINDING: %s\n", what);
    fflush(stderr);
    abort();
}

static void check(int fine, const char *what)
{
    if (!fine) {
        PyErr_Print();
        perror(what);
        fail(what);
    }
}

/* Random numbers: each thread's own. */
static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Now and then, with a descriptor in hand (io.h). */
void pause_now(void)
{
    static __thread uint64_t state;
    if (state == 0)
        state = (uint64_t)(uintptr_t)&state;
    if (next(&state) % 64 == 0)
        usleep(200);
}

static uint32_t some_number(uint64_t *state)
{
    uint64_t random = next(state);
    switch (random % 16) {
    case 0:
        return (uint32_t)(random >> 32);
    case 1:
        return (uint32_t)(random >> 8 & 0x3ffff);
    default:
        return (random >> 20 & 1 ? GT_IO_FIRST_SOCKET : 0) + (uint32_t)(random >> 32) % NUMBERS;
    }
}

static uint32_t some_address(uint64_t *state)
{
    uint64_t random = next(state);
    uint32_t size = (uint32_t)atomic_load(&memory_size);
    switch (random % 8) {
    case 0:
        return (uint32_t)(random >> 32);
    case 1:
        return size - (uint32_t)(random >> 32) % 256;
    default:
        return SLOT * SLOTS + (uint32_t)(random >> 32) % 4096;
    }
}

/* The first SLOTS of the memory are paths and vectors, by turns, as long as a thread does not write something else. */
static uint32_t slot(int is_vector, uint64_t *state)
{
    uint64_t random = next(state);
    return random % 16 ? ((uint32_t)(random >> 32) % (SLOTS / 2) * 2 + (uint32_t)is_vector) * SLOT : some_address(state);
}

static const char *const PATHS[] = {
    "file", "new", "folder/file", "folder", ".", "..", "../secret", "link", "up", "up/secret", "absolute", "fifo",
    "folder/../../secret", "", "file/", "folder/new", "loop"};

static uint64_t argument(int call, int place, uint64_t *state)
{
    uint64_t random = next(state);
    if (place == 0 && (call == 9 || call == 10) && random % 4)
        return 0; /* the folder */
    if (place == 0 && call == 15 && random % 4) /* not the listener, which nobody would open again */
        return GT_IO_FIRST_SOCKET + 1 + random % NUMBERS;
    if (place == 0 && call == 15)
        return (uint32_t)random % GT_IO_FIRST_SOCKET;
    if (place == 0 && call == 11 && random % 4)
        return GT_IO_FIRST_SOCKET; /* the listener */
    if (place == 0 && call != 17)
        return some_number(state);
    if (call == 17 && place == 0)
        return random % 4 ? 0 : random % 2000000; /* nanoseconds to wait */
    if (call == 9 && place >= 4 && place < 8)
        return random % 4 ? (place == 4 ? random >> 8 & 1 : place == 7 ? 0 : random >> 8 & 0x42) : random;
    if (call == 14 && (place == 1 || place == 2))
        return random & 1 ? (place == 1 ? 6 : 1 + (random >> 8) % 8) : (place == 1 ? 1 : (random >> 8) % 16);
    if (call == 14 && place == 4)
        return random % 4 ? 4 : random >> 32;
    if ((call == 4 && place == 2) || (call == 15 && place == 1))
        return random % 4; /* whence, how */
    if (call == 8 && place == 1)
        return random % 2 ? 4 : random >> 32;
    if (call == 13 && place == 1)
        return 1;
    if (call == 13 && place == 2)
        return 4;
    if (call <= 3 && place == 2)
        return random % 8 ? 1 : random >> 40;
    if (call <= 4 && call >= 2 && (call == 4 ? place == 1 : place == 3))
        return random % 4 ? random >> 50 : random; /* an offset */
    if ((call == 9 || call == 10) && place == 2)
        return slot(0, state);
    if ((call == 9 || call == 10) && place == 3)
        return random % 16 ? PATH_SIZE : random >> 30;
    if (call <= 3 && place == 1)
        return slot(1, state);
    return random % 8 ? some_address(state) : random;
}

/* Paths and vectors, which the threads change all the time. */
static void write_memory(uint64_t *state)
{
    uint64_t random = next(state);
    uint32_t at = slot((int)(random & 1), state), vector[2], left, place;
    const char *path = PATHS[(random >> 8) % (sizeof PATHS / sizeof *PATHS)];
    if (at > SLOT * SLOTS)
        at = SLOT * SLOTS - SLOT;
    if (random & 1) {
        vector[0] = some_address(state);
        vector[1] = (uint32_t)(random >> 32) % (random >> 10 & 7 ? 64 : UINT32_MAX);
        memcpy(memory + at, vector, sizeof vector);
        return;
    }
    left = PATH_SIZE - (uint32_t)strlen(path);
    memcpy(memory + at, path, strlen(path)); /* and then "./" in front of it, so that it has that length */
    memmove(memory + at + left, memory + at, strlen(path));
    for (place = 0; place < left; place++)
        memory[at + place] = place % 2 || place == left - 1 ? '/' : '.';
}

static void look_for_secret(void)
{
    /* It is nowhere in what the module can read: only paths and numbers are written by the harness. */
    if (memmem(memory, 4 * PAGE, SECRET, SECRET_SIZE) != NULL)
        fail("the module has read a secret of the host's");
}

static void *module_thread(void *seed)
{
    uint64_t state = (uint64_t)(uintptr_t)seed;
    Value values[16];
    int call, place;
    unsigned turn = 0;
    while (!atomic_load(&over)) {
        call = (int)(next(&state) % CALLS);
        if (next(&state) % 4 == 0)
            call = next(&state) % 8 ? 9 : 11; /* so that there are descriptors */
        write_memory(&state);
        memset(values, 0, sizeof values);
        for (place = 0; place < calls[call].arguments; place++)
            values[place].u64 = argument(call, place, &state);
        calls[call].run(calls[call].data, NULL, values, (size_t)calls[call].arguments);
        atomic_fetch_add(&made[call], 1);
        if (values[0].u64 == 0)
            atomic_fetch_add(&succeeded[call], 1);
        if (++turn % 256 == 0)
            look_for_secret();
        if (turn % 65536 == 0 && atomic_load(&memory_size) < PAGES * PAGE)
            atomic_fetch_add(&memory_size, PAGE);
    }
    return NULL;
}

static void *client_thread(void *unused)
{
    int clients[8] = {-1, -1, -1, -1, -1, -1, -1, -1};
    unsigned turn = 0;
    (void)unused;
    while (!atomic_load(&over)) {
        int *client = &clients[turn++ % 8];
        if (*client >= 0)
            close(*client);
        *client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (connect(*client, (struct sockaddr *)&address, sizeof address) == 0 || errno == EINPROGRESS) {
            ssize_t ignored = send(*client, "x", 1, MSG_NOSIGNAL);
            (void)ignored;
        }
        usleep(200);
    }
    for (turn = 0; turn < 8; turn++)
        if (clients[turn] >= 0)
            close(clients[turn]);
    return NULL;
}

/* The host opens and closes descriptors of its own all the time, so that a number that C closes or uses wrongly is
   soon one of these. */
static void *host_thread(void *unused)
{
    char text[SECRET_SIZE];
    struct stat found;
    (void)unused;
    while (!atomic_load(&over)) {
        int own[4], place;
        for (place = 0; place < 4; place++) {
            own[place] = dup(place % 2 ? secret : secret_socket[0]);
            check(own[place] >= 0, "dup");
        }
        usleep(100);
        for (place = 0; place < 4; place++)
            if (close(own[place]))
                fail("a descriptor of the host's was closed");
        if (pread(secret, text, sizeof text, 0) != sizeof text || memcmp(text, SECRET, sizeof text) || fstat(secret, &found)
            || found.st_size != SECRET_SIZE)
            fail("a file of the host's was written");
        if (recv(secret_socket[1], text, sizeof text, MSG_DONTWAIT) >= 0)
            fail("a socket of the host's was written to");
    }
    return NULL;
}

static PyObject *call_table(const char *method, const char *format, ...)
{
    va_list arguments;
    PyObject *function = PyObject_GetAttrString(table_object, method), *tuple, *result;
    va_start(arguments, format);
    tuple = Py_VaBuildValue(format, arguments);
    va_end(arguments);
    result = PyObject_CallObject(function, tuple);
    check(result != NULL, method);
    Py_DECREF(function);
    Py_DECREF(tuple);
    return result;
}

/* What wasi/descriptor_table.py and wasi/native_io.py do. Holds the GIL, as Python's code does. */
static void be_python(uint64_t *state, int *owned)
{
    uint32_t number = some_number(state);
    PyObject *claimed;
    unsigned long long flags;
    int descriptor;
    if (number >= GT_IO_NUMBERS || number % GT_IO_FIRST_SOCKET < 2)
        return; /* 0 and 65536 stay: the folder, the listener */
    if (owned[number] > 0) {
        Py_DECREF(call_table("retire", "(Ii)", number, owned[number]));
        if (next(state) % 2 == 0) { /* changed: it has other flags now */
            flags = number >= GT_IO_FIRST_SOCKET ? GT_IO_SOCKET : GT_IO_FILE | GT_IO_READS;
            Py_DECREF(call_table("publish", "(IiK)", number, owned[number], flags));
            return;
        }
        if (close(owned[number]))
            fail("a descriptor was closed twice");
        owned[number] = 0;
        Py_DECREF(call_table("give", "(I)", number));
        Py_DECREF(call_table("uncount", "()"));
        return;
    }
    claimed = call_table("claim", "(I)", number);
    if (claimed != Py_None) {
        check(PyArg_ParseTuple(claimed, "iK", &descriptor, &flags), "claim");
        owned[number] = descriptor;
    }
    Py_DECREF(claimed);
    if (next(state) % 16 == 0)
        Py_DECREF(call_table("inject", "(III)", 1, 2, 3));
}

static int descriptors(void)
{
    DIR *all = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(all) != NULL)
        count++;
    closedir(all);
    return count;
}

static void make_table(void)
{
    uint8_t errnos[256];
    PyObject *module = PyModule_New("fuzz"), *type, *pair;
    int place;
    for (place = 0; place < 256; place++)
        errnos[place] = place ? (uint8_t)place : 29;
    gt_trap_new = trap;
    gt_sharedmemory_data_size = size_of_memory;
    gt_linker_define_func_unchecked = keep;
    check(gt_add_io_table(module) == 0, "gt_add_io_table");
    type = PyObject_GetAttrString(module, "IoTable");
    table_object = PyObject_CallFunction(type, "niy#iKK", (Py_ssize_t)NUMBERS, 1, errnos, (Py_ssize_t)sizeof errnos,
                                         stop_pipe[0], (unsigned long long)(uintptr_t)memory, 1ULL);
    check(table_object != NULL, "IoTable");
    Py_DECREF(type);
    table = (IoTable *)table_object;
    for (defining = 0; defining < CALLS; defining++) {
        pair = call_table("define", "(KssKO)", 0ULL, "", calls[defining].name, 0ULL, Py_True);
        Py_INCREF(PyTuple_GetItem(pair, 0)); /* lives as long as the linker */
        Py_DECREF(pair);
    }
}

static int listener(void)
{
    socklen_t size = sizeof address;
    int made_here = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check(bind(made_here, (struct sockaddr *)&address, sizeof address) == 0 && listen(made_here, 64) == 0
              && getsockname(made_here, (struct sockaddr *)&address, &size) == 0, "listen");
    return made_here;
}

int main(int argc, char **argv)
{
    char path[4096];
    static int owned[GT_IO_NUMBERS];
    pthread_t threads[64];
    int seconds = argc > 4 ? atoi(argv[2]) : 0, count = argc > 4 ? atoi(argv[4]) : 0, place, before, listening;
    uint64_t state = argc > 4 ? strtoull(argv[3], NULL, 10) * 2654435761u + 88172645463325252u : 0;
    double end;
    if (seconds <= 0 || count <= 0 || count > 60)
        return 2;
    Py_InitializeEx(0);
    memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(memory != MAP_FAILED && pipe2(stop_pipe, O_CLOEXEC) == 0, "mmap");
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, secret_socket) == 0, "socketpair");
    snprintf(path, sizeof path, "%s/secret", argv[1]);
    secret = open(path, O_RDWR | O_CLOEXEC);
    snprintf(path, sizeof path, "%s/inside", argv[1]);
    folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    listening = listener();
    check(secret >= 0 && folder >= 0, path);
    before = descriptors();
    make_table();
    for (place = 0; place < 2; place++) { /* the folder is 0, the listener 65536 */
        Py_DECREF(call_table("use", "(I)", place ? GT_IO_FIRST_SOCKET : 0));
        Py_DECREF(call_table("publish", "(IiK)", place ? GT_IO_FIRST_SOCKET : 0, place ? listening : folder,
                             (unsigned long long)(place ? GT_IO_LISTENER | GT_IO_SOCKET : GT_IO_FOLDER | GT_IO_READS)));
    }
    for (place = 0; place < count; place++)
        check(!pthread_create(&threads[place], NULL, module_thread, (void *)(uintptr_t)(next(&state) | 1)), "thread");
    check(!pthread_create(&threads[count], NULL, client_thread, NULL), "thread");
    check(!pthread_create(&threads[count + 1], NULL, host_thread, NULL), "thread");
    for (end = gt_fine_now() + seconds; gt_fine_now() < end;) {
        for (place = 0; place < 64; place++)
            be_python(&state, owned);
        Py_BEGIN_ALLOW_THREADS
        usleep(500);
        Py_END_ALLOW_THREADS
    }
    atomic_store(&over, 1);
    Py_BEGIN_ALLOW_THREADS
    for (place = 0; place < count + 2; place++)
        pthread_join(threads[place], NULL);
    Py_END_ALLOW_THREADS
    look_for_secret();
    for (place = 0; place < (int)GT_IO_NUMBERS; place++)
        if (owned[place] > 0)
            close(owned[place]);
    Py_DECREF(call_table("close_all", "()"));
    Py_DECREF(call_table("close_poller", "()"));
    if (descriptors() != before)
        fail("descriptors were left open");
    for (place = 0; place < CALLS; place++)
        printf("%s %llu %llu\n", calls[place].name, (unsigned long long)atomic_load(&made[place]),
               (unsigned long long)atomic_load(&succeeded[place]));
    return 0;
}
