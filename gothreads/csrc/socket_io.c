/* Sockets without Python: reading and writing them, and what package net does with a connection that it has accepted.
   Whether an address may be used is decided in Python (wasi/network.py), so binding and connecting are there. */

#include "io.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

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

static void convert(const Name *name, Address *address)
{
    memset(address, 0, sizeof *address);
    address->family = name->any.sa_family;
    if (name->any.sa_family == AF_INET) {
        address->port = ntohs(name->v4.sin_port);
        memcpy(address->address, &name->v4.sin_addr, 4);
    } else {
        address->port = ntohs(name->v6.sin6_port);
        address->zone = name->v6.sin6_scope_id;
        memcpy(address->address, &name->v6.sin6_addr, 16);
    }
}

/* fd_read and fd_write(fd, vectors, count, done) of a socket: the first vector only, as WASI permits. Go passes one. */
static int transfer(IoTable *table, int descriptor, const Value *values, int writing)
{
    uint32_t address, size, moved32;
    char *vector = gt_io_at(table, values[1].u32, 8), *done = gt_io_at(table, values[3].u32, 4), *bytes;
    ssize_t moved;
    if (vector == NULL || done == NULL)
        return EFAULT;
    memcpy(&address, vector, 4); /* once: other threads may change it */
    memcpy(&size, vector + 4, 4);
    bytes = gt_io_at(table, address, size);
    if (bytes == NULL)
        return EFAULT;
    do
        moved = writing ? send(descriptor, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL)
                        : recv(descriptor, bytes, size, MSG_DONTWAIT);
    while (moved < 0 && errno == EINTR);
    if (moved < 0)
        return errno;
    moved32 = (uint32_t)moved;
    memcpy(done, &moved32, 4);
    return 0;
}

int gt_socket_read(IoTable *table, int descriptor, const Value *values)
{
    return transfer(table, descriptor, values, 0);
}

int gt_socket_write(IoTable *table, int descriptor, const Value *values)
{
    return transfer(table, descriptor, values, 1);
}

/* Accepts a connection with a number that was taken, and gives it that number. Returns an error number. */
static int accept_as(IoTable *table, int listener, uint32_t number, const Value *values)
{
    Name name;
    Address from;
    socklen_t size = sizeof name;
    char *result = gt_io_at(table, values[1].u32, 4), *peer = gt_io_at(table, values[2].u32, sizeof from);
    int accepted, failure;
    if (result == NULL || peer == NULL)
        return EFAULT;
    do
        accepted = accept4(listener, &name.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    while (accepted < 0 && errno == EINTR);
    if (accepted < 0)
        return errno;
    convert(&name, &from);
    failure = gt_io_own(table, number, accepted, GT_IO_SOCKET | GT_IO_NETWORK);
    if (failure)
        return failure;
    memcpy(result, &number, 4);
    memcpy(peer, &from, sizeof from);
    return 0;
}

/* net_accept(fd, result, peer) */
static void *net_accept(void *data, void *caller, Value *values, size_t count)
{
    IoTable *table = gt_io_table(data);
    uint32_t number = values[0].u32, taken;
    uint64_t word;
    int listener = gt_io_enter(table, number, GT_IO_LISTENER, &word), failure;
    if (listener < 0)
        return gt_io_fall_back(data, caller, values, count);
    if (gt_io_take(table, 1, &taken)) {
        gt_io_leave(table, number);
        return gt_io_fall_back(data, caller, values, count);
    }
    failure = accept_as(table, listener, taken, values);
    gt_io_leave(table, number);
    if (failure)
        gt_io_give(table, taken);
    return gt_io_result(table, values, failure);
}

/* net_name(fd, peer, result) */
static void *net_name(void *data, void *caller, Value *values, size_t count)
{
    IoTable *table = gt_io_table(data);
    uint32_t number = values[0].u32;
    uint64_t word;
    Name name;
    Address address;
    socklen_t size = sizeof name;
    char *result;
    int descriptor = gt_io_enter(table, number, GT_IO_NETWORK, &word), failure;
    if (descriptor < 0)
        return gt_io_fall_back(data, caller, values, count);
    failure = (values[1].u32 ? getpeername : getsockname)(descriptor, &name.any, &size) ? errno : 0;
    gt_io_leave(table, number);
    result = gt_io_at(table, values[2].u32, sizeof address);
    if (!failure && result == NULL)
        failure = EFAULT;
    if (!failure) {
        convert(&name, &address);
        memcpy(result, &address, sizeof address);
    }
    return gt_io_result(table, values, failure);
}

/* net_getsockopt(fd, level, option, result): SO_ERROR, after connecting. */
static void *net_getsockopt(void *data, void *caller, Value *values, size_t count)
{
    IoTable *table = gt_io_table(data);
    uint32_t number = values[0].u32, found;
    uint64_t word;
    int pending = 0, failure, descriptor = -1;
    socklen_t size = sizeof pending;
    char *result = gt_io_at(table, values[3].u32, 4);
    if (values[1].u32 == SOL_SOCKET && values[2].u32 == SO_ERROR && result != NULL)
        descriptor = gt_io_enter(table, number, GT_IO_NETWORK, &word);
    if (descriptor < 0)
        return gt_io_fall_back(data, caller, values, count);
    failure = getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &pending, &size) ? errno : 0;
    gt_io_leave(table, number);
    if (!failure) {
        found = pending == 0 ? 0 : table->errnos[(unsigned)pending < sizeof table->errnos ? pending : EIO];
        memcpy(result, &found, 4);
    }
    return gt_io_result(table, values, failure);
}

/* Of the options that a module may set (wasi/network.py), those that package net sets of each connection. */
static int is_usual(uint32_t level, uint32_t option)
{
    if (level == SOL_SOCKET)
        return option == SO_KEEPALIVE || option == SO_LINGER || option == SO_SNDBUF || option == SO_RCVBUF;
    return level == IPPROTO_TCP && (option == TCP_NODELAY || option == TCP_KEEPIDLE || option == TCP_KEEPINTVL
                                    || option == TCP_KEEPCNT);
}

/* net_setsockopt(fd, level, option, value, size) */
static void *net_setsockopt(void *data, void *caller, Value *values, size_t count)
{
    IoTable *table = gt_io_table(data);
    uint32_t number = values[0].u32, level = values[1].u32, option = values[2].u32, size = values[4].u32;
    uint64_t word;
    char value[8], *from = size <= sizeof value ? gt_io_at(table, values[3].u32, size) : NULL;
    int failure, descriptor = from != NULL && is_usual(level, option)
                                  ? gt_io_enter(table, number, GT_IO_NETWORK, &word) : -1;
    if (descriptor < 0)
        return gt_io_fall_back(data, caller, values, count);
    memcpy(value, from, size);
    failure = setsockopt(descriptor, (int)level, (int)option, value, size) ? errno : 0;
    gt_io_leave(table, number);
    return gt_io_result(table, values, failure);
}

/* net_shutdown(fd, how) */
static void *net_shutdown(void *data, void *caller, Value *values, size_t count)
{
    IoTable *table = gt_io_table(data);
    uint32_t number = values[0].u32, how = values[1].u32;
    uint64_t word;
    int failure, descriptor = how <= SHUT_RDWR ? gt_io_enter(table, number, GT_IO_SOCKET, &word) : -1;
    if (descriptor < 0)
        return gt_io_fall_back(data, caller, values, count);
    failure = shutdown(descriptor, (int)how) ? errno : 0;
    gt_io_leave(table, number);
    return gt_io_result(table, values, failure);
}

const IoFunction gt_socket_functions[] = {
    {"net_accept", net_accept}, {"net_name", net_name}, {"net_getsockopt", net_getsockopt},
    {"net_setsockopt", net_setsockopt}, {"net_shutdown", net_shutdown}, {NULL, NULL}};
