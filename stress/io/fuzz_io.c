/* A hostile module against the I/O in C (gothreads/csrc/io.h), built with sanitizers: threads that make any call with
   any arguments, over a memory that one of them changes and grows, while another does what Python does with the same
   numbers (publish, retire, claim, change). `python -m stress.fuzz_io` builds and runs it.

   Findings: what a sanitizer reports; a call that does not end; a secret of the host's that is read or written, through
   a number of the module's or a path that leads outside; what is outside and is made, removed, renamed or listed; a
   connection or a datagram to an address that is not allowed; a descriptor that is left open, or closed twice.

       fuzz_io FOLDER SECONDS SEED THREADS
   FOLDER has `inside`, which the module may see, with links that lead outside; and `secret`, `outer` and SECRET!. */

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
enum { PAGES = 64, NUMBERS = 20, SLOT = 32, SLOTS = 128, PATH_SIZE = 24, SECRET_SIZE = 7 };
/* Behind paths and vectors, and what calls write. */
enum { ADDRESSES = 16384, MOST_ADDRESSES = 16 };
static const char SECRET[] = "SECRET!";

/* What the extension has of wasmtime and of its other files. */
TrapNew gt_trap_new;
LinkerDefineFuncUnchecked gt_linker_define_func_unchecked;
SharedMemoryDataSize gt_sharedmemory_data_size;
int gt_add_peers(PyObject *module);
int gt_add_io_table(PyObject *module);

static char *memory;
static atomic_size_t memory_size = 4 * PAGE;
static atomic_int over, traps;
static IoTable *table;
static PyObject *table_object, *peers_object;
static const char *root;
static int folder, stop_pipe[2], secret, secret_socket[2];
/* Where the module may connect and send to, and where not. */
static struct sockaddr_in address, forbidden_address, datagram_address, friend_address, secret_datagram_address;
static int forbidden, datagrams, friend, secret_datagrams;

enum {
    FD_READ, FD_WRITE, FD_PREAD, FD_PWRITE, FD_SEEK, FD_CLOSE, FD_FILESTAT_GET, FD_FDSTAT_GET, FD_FDSTAT_SET_FLAGS,
    PATH_OPEN, PATH_FILESTAT_GET, NET_ACCEPT, NET_NAME, NET_GETSOCKOPT, NET_SETSOCKOPT, NET_SHUTDOWN, POLL_OPEN,
    POLL_WAIT, POLL_BREAK, PATH_CREATE_DIRECTORY, PATH_REMOVE_DIRECTORY, PATH_UNLINK_FILE, PATH_RENAME, FD_READDIR,
    NET_SOCKET, NET_CONNECT, NET_RECEIVE, NET_SEND, CALLS
};
static atomic_ullong made[CALLS], succeeded[CALLS];

static struct {
    const char *name;
    int arguments;
    HostCallback run;
    void *data;
} calls[CALLS] = {
    {"fd_read", 4}, {"fd_write", 4}, {"fd_pread", 5}, {"fd_pwrite", 5}, {"fd_seek", 4}, {"fd_close", 1},
    {"fd_filestat_get", 2}, {"fd_fdstat_get", 2}, {"fd_fdstat_set_flags", 2}, {"path_open", 9},
    {"path_filestat_get", 5}, {"net_accept", 3}, {"net_name", 3}, {"net_getsockopt", 4}, {"net_setsockopt", 5},
    {"net_shutdown", 2}, {"poll_open", 3}, {"poll_wait", 3}, {"poll_break", 0}, {"path_create_directory", 3},
    {"path_remove_directory", 3}, {"path_unlink_file", 3}, {"path_rename", 6}, {"fd_readdir", 5}, {"net_socket", 4},
    {"net_connect", 2}, {"net_receive", 7}, {"net_send", 6}};

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
    "folder/../../secret", "", "file/", "folder/new", "loop", "up/outer", "outer", "up/outer/kept", "up/new", "folder/",
    "new/file", "folder/../new/", "../new"};

static uint32_t address_slot(uint64_t *state)
{
    return ADDRESSES + (uint32_t)(next(state) % MOST_ADDRESSES) * (uint32_t)sizeof(Address);
}

static int is_path_call(int call)
{
    return call == PATH_OPEN || call == PATH_FILESTAT_GET || (call >= PATH_CREATE_DIRECTORY && call <= PATH_RENAME);
}

/* The number of what a call is about. */
static uint64_t subject(int call, uint64_t *state)
{
    uint64_t random = next(state);
    if ((is_path_call(call) || call == FD_READDIR) && random % 4)
        return 0; /* the folder */
    if (call == NET_SHUTDOWN) /* not the listener and the datagrams' socket, which nobody would open again */
        return random % 4 ? GT_IO_FIRST_SOCKET + 2 + random % NUMBERS : (uint32_t)random % GT_IO_FIRST_SOCKET;
    if (call == NET_ACCEPT && random % 4)
        return GT_IO_FIRST_SOCKET; /* the listener */
    if ((call == NET_RECEIVE || call == NET_SEND) && random % 2)
        return GT_IO_FIRST_SOCKET + 1; /* the datagrams' socket */
    return some_number(state);
}

static uint64_t path_argument(int call, int place, uint64_t *state)
{
    uint64_t random = next(state);
    int rename = call == PATH_RENAME, first = call == PATH_OPEN || call == PATH_FILESTAT_GET ? 2 : 1;
    if (rename && place == 3)
        return random % 4 ? 0 : some_number(state);
    if (place == first || (rename && place == 4))
        return slot(0, state);
    if (place == first + 1 || (rename && place == 5))
        return random % 16 ? PATH_SIZE : random >> 30;
    if (call == PATH_OPEN && place >= 4 && place < 8)
        return random % 4 ? (place == 4 ? random >> 8 & 1 : place == 7 ? 0 : random >> 8 & 0x42) : random;
    return random % 8 ? some_address(state) : random;
}

static uint64_t socket_argument(int call, int place, uint64_t *state)
{
    uint64_t random = next(state);
    if (call == NET_SOCKET && place < 3)
        return random % 8 == 0 ? random : place == 0 ? (random & 16 ? 2 : 10) : place == 1 ? 1 + (random >> 8) % 2 : 0;
    if ((call == NET_CONNECT && place == 1) || (call == NET_SEND && place == 4))
        return random % 8 ? address_slot(state) : some_address(state);
    if ((call == NET_RECEIVE || call == NET_SEND) && (place == 2 || place == 3))
        return random % 8 == 0 ? random : place == 2 ? (random >> 8) % 2000 : 0;
    if (call == NET_SETSOCKOPT && (place == 1 || place == 2))
        return random & 1 ? (place == 1 ? 6 : 1 + (random >> 8) % 8) : (place == 1 ? 1 : (random >> 8) % 16);
    if (call == NET_SETSOCKOPT && place == 4)
        return random % 4 ? 4 : random >> 32;
    if (call == NET_SHUTDOWN)
        return random % 4;
    if (call == NET_GETSOCKOPT && place < 3)
        return place == 1 ? 1 : 4;
    return random % 8 ? some_address(state) : random;
}

static uint64_t argument(int call, int place, uint64_t *state)
{
    uint64_t random = next(state);
    if (call == POLL_WAIT && place == 0)
        return random % 4 ? 0 : random % 2000000; /* nanoseconds to wait */
    if (place == 0 && call != NET_SOCKET)
        return subject(call, state);
    if (is_path_call(call))
        return path_argument(call, place, state);
    if ((call >= NET_ACCEPT && call <= NET_SHUTDOWN) || call >= NET_SOCKET)
        return socket_argument(call, place, state);
    if (call == FD_SEEK && place == 2)
        return random % 4; /* whence */
    if (call == FD_FDSTAT_SET_FLAGS)
        return random % 2 ? 4 : random >> 32;
    if (call <= FD_PWRITE && place == 2)
        return random % 8 ? 1 : random >> 40;
    if ((call == FD_PREAD || call == FD_PWRITE) && place == 3)
        return random % 4 ? random >> 50 : random; /* an offset */
    if (call == FD_SEEK && place == 1)
        return random % 4 ? random >> 50 : random;
    if (call == FD_READDIR && place == 2)
        return random % 8 ? (random >> 8) % 4096 : random >> 32;
    if (call == FD_READDIR && place == 3)
        return random % 4 ? 0 : random % 8 ? UINT64_MAX : random >> 40; /* a cookie */
    if (call <= FD_PWRITE && place == 1)
        return slot(1, state);
    return random % 8 ? some_address(state) : random;
}

/* Addresses, which the threads change all the time, too. */
static void write_address(uint64_t *state)
{
    uint64_t random = next(state);
    const struct sockaddr_in *all[] = {&address, &forbidden_address, &datagram_address, &friend_address,
                                       &secret_datagram_address};
    const struct sockaddr_in *one = all[random % 5];
    uint32_t at = address_slot(state);
    uint16_t start[2] = {(uint16_t)(random & 0xf00 ? AF_INET : random >> 12), ntohs(one->sin_port)};
    memcpy(memory + at, start, sizeof start);
    memcpy(memory + at + 8, &one->sin_addr, 4);
    if (random % 16 == 7)
        memcpy(memory + at + random % 64, &random, sizeof random);
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
            /* so that there are descriptors */
            call = next(&state) % 8 ? PATH_OPEN : next(&state) % 2 ? NET_ACCEPT : NET_SOCKET;
        write_memory(&state);
        write_address(&state);
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

/* Removes all that is in a folder. Follows no link: the module exchanges them meanwhile. */
static void empty(int at)
{
    int below;
    struct dirent *entry;
    DIR *all = fdopendir(openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    while (all != NULL && (entry = readdir(all)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || unlinkat(at, entry->d_name, 0) == 0)
            continue;
        below = openat(at, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (below >= 0) {
            empty(below);
            close(below);
        }
        unlinkat(at, entry->d_name, AT_REMOVEDIR);
    }
    if (all != NULL)
        closedir(all);
}

static void put_file(int at, const char *text)
{
    int file = openat(at, "file", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file >= 0) {
        ssize_t ignored = write(file, text, strlen(text));
        (void)ignored;
        close(file);
    }
}

/* What the module has removed and renamed is put back; what it has made goes. Its calls may get in the way. */
static void lay_out(void)
{
    char secret_path[4096];
    int below;
    snprintf(secret_path, sizeof secret_path, "%s/secret", root);
    empty(folder);
    put_file(folder, "a file");
    mkdirat(folder, "folder", 0700);
    below = openat(folder, "folder", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (below >= 0) {
        put_file(below, "another file");
        close(below);
    }
    if (symlinkat("folder/file", folder, "link") || symlinkat("..", folder, "up") || symlinkat("loop", folder, "loop")
        || symlinkat(secret_path, folder, "absolute") || mkfifoat(folder, "fifo", 0600))
        errno = 0;
}

/* Nothing outside has been removed or renamed, and nothing is new. */
static void check_outside(void)
{
    static const char *const NAMES[] = {"fuzz_io", "inside", "secret", "outer", "outer/kept", "SECRET!"};
    char path[4096];
    struct stat found;
    struct dirent *entry;
    DIR *all = opendir(root);
    size_t place, count = 0;
    for (place = 0; place < sizeof NAMES / sizeof *NAMES; place++) {
        snprintf(path, sizeof path, "%s/%s", root, NAMES[place]);
        if (lstat(path, &found))
            fail("something outside has been removed");
    }
    while ((entry = readdir(all)) != NULL)
        count += entry->d_name[0] != '.';
    closedir(all);
    if (count != sizeof NAMES / sizeof *NAMES - 1)
        fail("something has been made outside");
}

static void *folder_thread(void *unused)
{
    unsigned turn = 0;
    (void)unused;
    while (!atomic_load(&over)) {
        if (turn++ % 20 == 0)
            lay_out();
        check_outside();
        usleep(1000);
    }
    return NULL;
}

static void *client_thread(void *unused)
{
    int clients[8] = {-1, -1, -1, -1, -1, -1, -1, -1};
    unsigned turn = 0;
    char text[64];
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
        if (sendto(friend, "datagram", 8, MSG_DONTWAIT, (struct sockaddr *)&datagram_address, sizeof address) < 0)
            errno = 0;
        while (recv(friend, text, sizeof text, MSG_DONTWAIT) >= 0)
            ;
        if (recv(secret_datagrams, text, sizeof text, MSG_DONTWAIT) >= 0)
            fail("a datagram was sent where the rules do not allow it");
        if (accept(forbidden, NULL, NULL) >= 0)
            fail("a connection was made where the rules do not allow it");
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

static PyObject *call_method(PyObject *object, const char *method, PyObject *arguments)
{
    PyObject *function = PyObject_GetAttrString(object, method), *result = PyObject_CallObject(function, arguments);
    check(result != NULL, method);
    Py_DECREF(function);
    Py_DECREF(arguments);
    return result;
}

static PyObject *call_table(const char *method, const char *format, ...)
{
    va_list arguments;
    PyObject *tuple;
    va_start(arguments, format);
    tuple = Py_VaBuildValue(format, arguments);
    va_end(arguments);
    return call_method(table_object, method, tuple);
}

/* The rules allow an address, or say something else now. */
static void be_rules(uint64_t *state)
{
    const struct sockaddr_in *one = next(state) % 2 ? &address : &friend_address;
    Address allowed = {.family = AF_INET, .port = ntohs(one->sin_port)};
    PyObject *version;
    memcpy(allowed.address, &one->sin_addr, 4);
    version = call_method(peers_object, "version", Py_BuildValue("()"));
    if (next(state) % 8 == 0)
        Py_DECREF(call_method(peers_object, "forget", Py_BuildValue("()")));
    Py_DECREF(call_method(peers_object, "allow", Py_BuildValue("(y#N)", (char *)&allowed, (Py_ssize_t)24, version)));
}

/* What wasi/descriptor_table.py and wasi/native_io.py do. Holds the GIL, as Python's code does. */
static void be_python(uint64_t *state, int *owned)
{
    uint32_t number = some_number(state);
    PyObject *claimed;
    unsigned long long flags;
    int descriptor;
    if (number >= GT_IO_NUMBERS || number % GT_IO_FIRST_SOCKET < 2)
        return; /* 0, 65536 and 65537 stay: the folder, the listener, the datagrams' socket */
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
    check(gt_add_peers(module) == 0 && gt_add_io_table(module) == 0, "gt_add_io_table");
    type = PyObject_GetAttrString(module, "Peers");
    peers_object = PyObject_CallObject(type, NULL);
    check(peers_object != NULL, "Peers");
    Py_DECREF(type);
    type = PyObject_GetAttrString(module, "IoTable");
    table_object = PyObject_CallFunction(type, "niy#iOKK", (Py_ssize_t)NUMBERS, 1, errnos, (Py_ssize_t)sizeof errnos,
                                         stop_pipe[0], peers_object, (unsigned long long)(uintptr_t)memory, 1ULL);
    check(table_object != NULL, "IoTable");
    Py_DECREF(type);
    table = (IoTable *)table_object;
    for (defining = 0; defining < CALLS; defining++) {
        pair = call_table("define", "(KssKO)", 0ULL, "", calls[defining].name, 0ULL, Py_True);
        Py_INCREF(PyTuple_GetItem(pair, 0)); /* lives as long as the linker */
        Py_DECREF(pair);
    }
}

/* A socket of this machine's, at any port. */
static int bound(int type, struct sockaddr_in *name)
{
    socklen_t size = sizeof *name;
    int made_here = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    name->sin_family = AF_INET;
    name->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check(bind(made_here, (struct sockaddr *)name, sizeof *name) == 0
              && (type != SOCK_STREAM || listen(made_here, 64) == 0)
              && getsockname(made_here, (struct sockaddr *)name, &size) == 0, "bind");
    return made_here;
}

static void publish_first(uint32_t number, int descriptor, uint64_t flags)
{
    Py_DECREF(call_table("use", "(I)", number));
    Py_DECREF(call_table("publish", "(IiK)", number, descriptor, (unsigned long long)flags));
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
    root = argv[1];
    listening = bound(SOCK_STREAM, &address);
    forbidden = bound(SOCK_STREAM, &forbidden_address);
    datagrams = bound(SOCK_DGRAM, &datagram_address);
    friend = bound(SOCK_DGRAM, &friend_address);
    secret_datagrams = bound(SOCK_DGRAM, &secret_datagram_address);
    check(secret >= 0 && folder >= 0, path);
    lay_out();
    before = descriptors();
    make_table();
    publish_first(0, folder, GT_IO_FOLDER | GT_IO_READS);
    publish_first(GT_IO_FIRST_SOCKET, listening, GT_IO_LISTENER | GT_IO_SOCKET);
    publish_first(GT_IO_FIRST_SOCKET + 1, datagrams, GT_IO_ANSWERS | GT_IO_SOCKET);
    for (place = 0; place < count; place++)
        check(!pthread_create(&threads[place], NULL, module_thread, (void *)(uintptr_t)(next(&state) | 1)), "thread");
    check(!pthread_create(&threads[count], NULL, client_thread, NULL), "thread");
    check(!pthread_create(&threads[count + 1], NULL, host_thread, NULL), "thread");
    check(!pthread_create(&threads[count + 2], NULL, folder_thread, NULL), "thread");
    for (end = gt_fine_now() + seconds; gt_fine_now() < end;) {
        for (place = 0; place < 64; place++)
            be_python(&state, owned);
        be_rules(&state);
        Py_BEGIN_ALLOW_THREADS
        usleep(500);
        Py_END_ALLOW_THREADS
    }
    atomic_store(&over, 1);
    Py_BEGIN_ALLOW_THREADS
    for (place = 0; place < count + 3; place++)
        pthread_join(threads[place], NULL);
    Py_END_ALLOW_THREADS
    look_for_secret();
    check_outside();
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
