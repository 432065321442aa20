/* What a module's I/O in C shares: the table of its descriptors (io_table.c), the addresses that it may use (peers.c),
   and the calls on them (socket_io.c, file_io.c, folder_io.c, poller.c).

   An entry of the table is one word: the host descriptor plus one (0: none), flags, and the number of threads that use
   it. A descriptor is Python's, which publishes it here and retires it before it closes it; or it is OWNED by the
   entry: C has opened it, and closes it, unless Python needs an object for it, and claims it.

   Invariants:
   - A thread counts itself first, and then looks at the descriptor in the word that it found. Who ends an entry clears
     the descriptor first, and then waits until nobody is counted. So a descriptor that a thread uses is not closed, nor
     its number in the host reused, meanwhile.
   - One thread ends an OWNED entry, or claims it: the one whose exchange clears OWNED.
   - A number is given back after its entry is 0. So who has a number is alone in setting its entry.
   - A socket is FRESH as long as nobody has done more with it than to set options. One thread connects it, or claims it
     and does what it wants: the one whose exchange clears FRESH.

       closer   clears the word   waits           closes the descriptor   gives the number back
       reader                           leaves
       claimer                                    sees no OWNED: it is not open

   A call on a socket never waits, and one on a file waits for a disk at most, so a closer waits no longer than that.
   The threads that it waits for need no lock to go on.

   The module may change its memory at any time: what is checked is copied first. Memory never shrinks, so an address
   that was checked stays good. */

#ifndef GOTHREADS_IO_H
#define GOTHREADS_IO_H

#include "fast.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

#pragma GCC visibility push(hidden)

#define GT_IO_DESCRIPTOR (((uint64_t)1 << 24) - 1)
/* Flags: wasi/native_io.py has the same. */
#define GT_IO_OWNED ((uint64_t)1 << 24)
#define GT_IO_SOCKET ((uint64_t)1 << 25)   /* served by recv and send */
#define GT_IO_NETWORK ((uint64_t)1 << 26)  /* its options and names are the host's */
#define GT_IO_LISTENER ((uint64_t)1 << 27) /* its connections may be accepted here */
#define GT_IO_FILE ((uint64_t)1 << 28)     /* a regular file */
#define GT_IO_FOLDER ((uint64_t)1 << 29)   /* a folder, in which paths may be looked up here */
#define GT_IO_READS ((uint64_t)1 << 30)
#define GT_IO_WRITES ((uint64_t)1 << 31)
#define GT_IO_READ_ONLY ((uint64_t)1 << 32) /* mounted read-only */
#define GT_IO_FDFLAGS_SHIFT 33              /* WASI's fdflags: 5 bits */
#define GT_IO_FRESH ((uint64_t)1 << 38)     /* neither bound nor connected: it may be connected here */
#define GT_IO_ANSWERS ((uint64_t)1 << 39)   /* receives datagrams, and may answer those who have sent them */
#define GT_IO_USER ((uint64_t)1 << 40)

/* Where a fuzzer waits, so that other threads come in between (stress/fuzz_io.py). */
#if defined(GT_IO_PAUSE)
void GT_IO_PAUSE(void);
#else
#define GT_IO_PAUSE() ((void)0)
#endif

/* Numbers of descriptors that are always polled begin here (wasm/layout.py); below are all others. */
#define GT_IO_FIRST_SOCKET ((uint32_t)1 << 16)
#define GT_IO_NUMBERS (2 * GT_IO_FIRST_SOCKET)

/* As Go has it (build/goroot/runtime/netpoll_gothreads.go). */
typedef struct {
    uint32_t poll_desc, sequence, mode;
} Event;

/* An address as Go has it (hostSockaddr in build/goroot/syscall/net_gothreads.go). */
typedef struct {
    uint16_t family, port;
    uint32_t zone;
    uint8_t address[16];
    uint32_t length; /* of a Unix socket's path, which is not given here */
    char path[108];
} Address;

_Static_assert(sizeof(Address) == 136, "wasi/socket_address.py has the same");

typedef union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_storage space;
} Name;

/* The part of an Address that tells one from another. */
typedef struct {
    uint8_t bytes[24];
} Peer;

typedef struct Peers Peers; /* peers.c */

typedef struct {
    PyObject_HEAD
    char *memory;
    const void *shared;     /* the memory's wasmtime_sharedmemory_t, which knows its size */
    uint8_t errnos[256];    /* WASI's number for each of the system's */
    int beneath;            /* paths may be looked up here: openat2 is there */
    _Atomic uint64_t *entries; /* one for each number */
    atomic_size_t counted;  /* how many descriptors the module has, at most `most` */
    size_t most;
    pthread_mutex_t numbers_lock; /* guards used and lowest */
    uint64_t *used;         /* a bit for each number */
    uint32_t lowest[2];     /* no number from there on to this is free, in words of `used`: of files, of sockets */
    Peers *peers;           /* a reference */
    /* The poller's (poller.c). */
    int epoll, wake;        /* wake: an eventfd, readable when a blocked poll_wait is to return */
    pthread_mutex_t lock;   /* guards injected and below; and held when Python uses `wake`, or closes the poller */
    Event *injected;        /* events that Python has for Go, without duplicates */
    size_t injected_count, injected_capacity;
    atomic_size_t pending;  /* injected_count, to be read without the lock */
} IoTable;

/* A host function: which one, and the Python function that serves what is not served here. */
typedef struct {
    PyObject_HEAD
    PyObject *table, *fallback_object;
    HostCallback fallback;
    void *fallback_data;
} IoCall;

typedef struct {
    const char *name;
    HostCallback run;
} IoFunction;

/* Tables of functions, each of which ends with a name that is NULL. */
extern const IoFunction gt_socket_functions[], gt_file_functions[], gt_folder_functions[], gt_poll_functions[];

static inline IoTable *gt_io_table(void *data)
{
    return (IoTable *)((IoCall *)data)->table;
}

static inline void *gt_io_fall_back(void *data, void *caller, Value *values, size_t count)
{
    IoCall *call = data;
    return call->fallback(call->fallback_data, caller, values, count);
}

/* Makes an errno the result of a call. */
static inline void *gt_io_result(const IoTable *table, Value *values, int number)
{
    values[0].u64 = number == 0 ? 0 : table->errnos[(unsigned)number < sizeof table->errnos ? (unsigned)number : EIO];
    return NULL;
}

/* The host address of `size` bytes at an address of the module, or NULL if they are not all in its memory. */
static inline char *gt_io_at(const IoTable *table, uint32_t address, uint64_t size)
{
    return address + size <= gt_sharedmemory_data_size(table->shared) ? table->memory + address : NULL;
}

/* The host descriptor for a number that has one of some flags, which stays open until gt_io_leave; -1 if there is none
   here. *word: its entry. */
static inline int gt_io_enter(IoTable *table, uint32_t number, uint64_t flags, uint64_t *word)
{
    if (number >= GT_IO_NUMBERS || !(atomic_load(&table->entries[number]) & flags))
        return -1; /* without being counted, so that nobody waits for threads that only try */
    *word = atomic_fetch_add(&table->entries[number], GT_IO_USER);
    GT_IO_PAUSE();
    if (*word & flags)
        return (int)(*word & GT_IO_DESCRIPTOR) - 1;
    atomic_fetch_sub(&table->entries[number], GT_IO_USER);
    return -1;
}

static inline void gt_io_leave(IoTable *table, uint32_t number)
{
    atomic_fetch_sub(&table->entries[number], GT_IO_USER);
}

/* Counts a descriptor, and takes its number: the lowest that is free, of sockets or of files. 0, or -1 if there are too
   many: then Python's function is called, which finds the same, and says so. */
int gt_io_take(IoTable *table, int is_socket, uint32_t *number);
/* The number is not needed after all. */
void gt_io_give(IoTable *table, uint32_t number);
/* Gives a number that was taken a descriptor, which is OWNED. Closes it and returns EMFILE if that cannot be. */
int gt_io_own(IoTable *table, uint32_t number, int descriptor, uint64_t flags);
/* Clears FRESH, and sets NETWORK. 0 if another thread has cleared it. The caller has entered the number. */
int gt_io_take_fresh(IoTable *table, uint32_t number);
/* Reports a descriptor's events to a pollDesc from now on: first what is the case now. 0, or an error number. */
int gt_io_watch(IoTable *table, int descriptor, uint32_t poll_desc, uint32_t sequence);
/* Adds an event, and wakes a poll_wait that waits. 0, or -1 if there is no memory for it. */
int gt_io_inject(IoTable *table, Event event);
/* Of the poller: 0, or -1 with errno. `stop` is readable when the app has ended. */
int gt_io_open_poller(IoTable *table, int stop);
void gt_io_close_poller(IoTable *table);

/* Of peers.c. NULL, with an exception, if it is none. */
Peers *gt_peers_of(PyObject *object);
/* Whether the rules are known to allow an address. */
int gt_peers_may_dial(Peers *peers, const Peer *peer);
/* A socket's own address, and one that has sent to it. */
void gt_peers_add_sender(Peers *peers, const Peer *own, const Peer *sender);
int gt_peers_has_sent(Peers *peers, const Peer *own, const Peer *peer);

/* Of file_io.c. Opens a path beneath a folder, and never outside of it. A descriptor, or -1 with errno. */
int gt_io_open_beneath(int folder, const char *path, int flags);
/* Copies a path of the module to `path`, which has PATH_MAX bytes: 0 if it is one for Python, which finds what is wrong
   with it. */
int gt_io_copy_path(const IoTable *table, uint32_t address, uint32_t size, char *path);

#pragma GCC visibility pop

#endif
