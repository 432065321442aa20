/* A module's poller: an M that has nothing to do waits in epoll, edge-triggered, without Python. wasi/poller.py is the
   same in Python. */

#include "io.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#if !defined(SYS_epoll_pwait2)
#define SYS_epoll_pwait2 441
#endif

enum { MODE_READ = 1, MODE_WRITE = 2 };
/* In an epoll event, instead of a pollDesc: the eventfd, and the descriptor that is readable when the app has ended. */
#define WAKE ((uint64_t)0)
#define STOP UINT64_MAX
enum { MOST_EVENTS = 128 };

int gt_io_watch(IoTable *table, int descriptor, uint32_t poll_desc, uint32_t sequence)
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
    IoTable *table = gt_io_table(data);
    uint32_t number = values[0].u32;
    uint64_t word;
    int descriptor = gt_io_enter(table, number, GT_IO_SOCKET, &word), failure;
    if (descriptor < 0)
        return gt_io_fall_back(data, caller, values, count);
    failure = gt_io_watch(table, descriptor, values[1].u32, values[2].u32);
    gt_io_leave(table, number);
    return gt_io_result(table, values, failure);
}

static void wake(IoTable *table)
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
    wake(gt_io_table(data));
    return NULL;
}

static int wait_for(IoTable *table, struct epoll_event *events, int most, int64_t nanoseconds)
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
    IoTable *table = gt_io_table(data);
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
    to = gt_io_at(table, address, (uint64_t)most * sizeof *events);
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

int gt_io_inject(IoTable *table, Event event)
{
    Event *grown;
    size_t place, capacity;
    int failed = 0;
    pthread_mutex_lock(&table->lock);
    for (place = 0; place < table->injected_count; place++)
        if (memcmp(&table->injected[place], &event, sizeof event) == 0)
            break;
    if (place == table->injected_capacity) {
        capacity = place ? 2 * place : 64;
        grown = realloc(table->injected, capacity * sizeof *grown);
        failed = grown == NULL;
        if (!failed) {
            table->injected = grown;
            table->injected_capacity = capacity;
        }
    }
    if (!failed && place == table->injected_count) {
        table->injected[place] = event;
        table->injected_count++;
        atomic_store(&table->pending, table->injected_count);
    }
    if (!failed)
        wake(table); /* under the lock: the poller may be closed meanwhile, and its descriptor be another's */
    pthread_mutex_unlock(&table->lock);
    return -failed;
}

int gt_io_open_poller(IoTable *table, int stop)
{
    struct epoll_event woken = {.events = EPOLLIN, .data.u64 = WAKE}, stopped = {.events = EPOLLIN, .data.u64 = STOP};
    table->epoll = epoll_create1(EPOLL_CLOEXEC);
    table->wake = table->epoll < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return table->wake < 0 || epoll_ctl(table->epoll, EPOLL_CTL_ADD, table->wake, &woken)
                   || epoll_ctl(table->epoll, EPOLL_CTL_ADD, stop, &stopped)
               ? -1
               : 0;
}

void gt_io_close_poller(IoTable *table)
{
    pthread_mutex_lock(&table->lock);
    if (table->wake >= 0)
        close(table->wake);
    if (table->epoll >= 0)
        close(table->epoll);
    table->wake = table->epoll = -1;
    pthread_mutex_unlock(&table->lock);
}

const IoFunction gt_poll_functions[] = {
    {"poll_open", poll_open}, {"poll_wait", poll_wait}, {"poll_break", poll_break}, {NULL, NULL}};
