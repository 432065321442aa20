/* Sockets without Python: reading and writing them, and what package net does with a connection. Whether an address
   may be used is decided in Python (wasi/network.py). What it has allowed is known here (peers.c): so the first dial of
   an address asks there, and the next ones do not. Binding and listening are in Python. */

#include "io.h"

#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

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

/* The size of the name that stands for an address, or 0 if it is one for Python: of a Unix socket, or wrong. */
static socklen_t name_of(const Address *address, Name *name)
{
    memset(name, 0, sizeof *name);
    name->any.sa_family = address->family;
    if (address->family == AF_INET) {
        name->v4.sin_port = htons(address->port);
        memcpy(&name->v4.sin_addr, address->address, 4);
        return sizeof name->v4;
    }
    if (address->family == AF_INET6) {
        name->v6.sin6_port = htons(address->port);
        name->v6.sin6_scope_id = address->zone;
        memcpy(&name->v6.sin6_addr, address->address, 16);
        return sizeof name->v6;
    }
    return 0;
}

static Peer peer_of(const Name *name)
{
    Address address;
    Peer peer;
    convert(name, &address); /* so that what an address does not use is 0 */
    memcpy(&peer, &address, sizeof peer);
    return peer;
}

/* A socket's own address. 0 with errno if it has none. */
static int own_peer(int descriptor, Peer *peer)
{
    Name name;
    socklen_t size = sizeof name;
    if (getsockname(descriptor, &name.any, &size))
        return 0;
    *peer = peer_of(&name);
    return 1;
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

/* net_socket(family, type, protocol, result) */
static void *net_socket(void *data, void *caller, Value *values, size_t count)
{
    IoTable *table = gt_io_table(data);
    uint32_t family = values[0].u32, type = values[1].u32, protocol = values[2].u32, taken;
    uint32_t usual = type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
    char *result = gt_io_at(table, values[3].u32, 4);
    int made, failure;
    if ((family != AF_INET && family != AF_INET6) || (type != SOCK_STREAM && type != SOCK_DGRAM)
        || (protocol != 0 && protocol != usual) || result == NULL || gt_io_take(table, 1, &taken))
        return gt_io_fall_back(data, caller, values, count);
    made = socket((int)family, (int)type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    failure = made < 0 ? errno : gt_io_own(table, taken, made, GT_IO_SOCKET | GT_IO_FRESH);
    if (failure)
        gt_io_give(table, taken);
    else
        memcpy(result, &taken, 4);
    return gt_io_result(table, values, failure);
}

/* Copies an address of the module. The size of its name, or 0 if it is one for Python. */
static socklen_t copy_name(const IoTable *table, uint32_t from, Name *name)
{
    const char *place = gt_io_at(table, from, sizeof(Address));
    Address address;
    if (place == NULL)
        return 0;
    memcpy(&address, place, sizeof address);
    return name_of(&address, name);
}

/* net_connect(fd, address): a FRESH socket, to an address that the rules are known to allow. */
static void *net_connect(void *data, void *caller, Value *values, size_t count)
{
    IoTable *table = gt_io_table(data);
    uint32_t number = values[0].u32;
    uint64_t word;
    Name name;
    Peer peer;
    socklen_t size = copy_name(table, values[1].u32, &name);
    int descriptor = -1, failure;
    if (size != 0) {
        peer = peer_of(&name);
        if (gt_peers_may_dial(table->peers, &peer))
            descriptor = gt_io_enter(table, number, GT_IO_FRESH, &word);
    }
    if (descriptor < 0)
        return gt_io_fall_back(data, caller, values, count);
    if (!gt_io_take_fresh(table, number)) {
        gt_io_leave(table, number);
        return gt_io_fall_back(data, caller, values, count);
    }
    failure = connect(descriptor, &name.any, size) ? errno : 0;
    gt_io_leave(table, number);
    return gt_io_result(table, values, failure);
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

/* Of the options that a module may set (wasi/network.py), those that package net sets of each connection, and each
   socket for datagrams. */
static int is_usual(uint32_t level, uint32_t option)
{
    if (level == IPPROTO_IPV6)
        return option == IPV6_V6ONLY;
    if (level == SOL_SOCKET)
        return option == SO_BROADCAST || option == SO_KEEPALIVE || option == SO_LINGER || option == SO_SNDBUF
               || option == SO_RCVBUF;
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
                                  ? gt_io_enter(table, number, GT_IO_NETWORK | GT_IO_FRESH, &word) : -1;
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

/* Datagrams. */

/* The most bytes of one call (wasi/network.py). */
#define LARGEST_DATAGRAM ((uint32_t)65536)
#define LARGEST_MESSAGE ((uint32_t)1 << 20)

/* Receives with a descriptor that was entered. Returns an error number. */
static int receive(IoTable *table, int descriptor, uint64_t word, const Value *values)
{
    uint32_t size = values[2].u32 < LARGEST_MESSAGE ? values[2].u32 : LARGEST_MESSAGE, received, flags;
    char *to = gt_io_at(table, values[1].u32, size), *sender = gt_io_at(table, values[4].u32, sizeof(Address));
    char *done = gt_io_at(table, values[5].u32, 4), *out = gt_io_at(table, values[6].u32, 4);
    Address from = {.family = 0};
    Peer own, peer;
    Name name;
    struct iovec vector = {to, size};
    struct msghdr message = {.msg_name = &name, .msg_namelen = sizeof name, .msg_iov = &vector, .msg_iovlen = 1};
    ssize_t moved;
    if (to == NULL || sender == NULL || done == NULL || out == NULL)
        return EFAULT; /* and what was sent stays */
    do
        moved = recvmsg(descriptor, &message, MSG_DONTWAIT);
    while (moved < 0 && errno == EINTR);
    if (moved < 0)
        return errno;
    if (message.msg_namelen != 0) {
        convert(&name, &from);
        peer = peer_of(&name);
        if (word & GT_IO_ANSWERS && own_peer(descriptor, &own))
            gt_peers_add_sender(table->peers, &own, &peer);
    }
    received = (uint32_t)moved;
    flags = (uint32_t)message.msg_flags & MSG_TRUNC;
    memcpy(sender, &from, sizeof from);
    memcpy(done, &received, 4);
    memcpy(out, &flags, 4);
    return 0;
}

/* net_receive(fd, data, size, flags, sender, done, out_flags) */
static void *net_receive(void *data, void *caller, Value *values, size_t count)
{
    IoTable *table = gt_io_table(data);
    uint32_t number = values[0].u32;
    uint64_t word;
    int descriptor = values[3].u32 == 0 ? gt_io_enter(table, number, GT_IO_ANSWERS | GT_IO_NETWORK, &word) : -1;
    int failure;
    if (descriptor < 0)
        return gt_io_fall_back(data, caller, values, count);
    failure = receive(table, descriptor, word, values);
    gt_io_leave(table, number);
    return gt_io_result(table, values, failure);
}

/* net_send(fd, data, size, flags, to, done): to an address that the rules are known to allow, or that has sent to the
   socket. */
static void *net_send(void *data, void *caller, Value *values, size_t count)
{
    IoTable *table = gt_io_table(data);
    uint32_t number = values[0].u32, size = values[2].u32, sent;
    uint64_t word;
    Name name;
    Peer own, peer;
    socklen_t name_size = copy_name(table, values[4].u32, &name);
    char *from = size <= LARGEST_DATAGRAM ? gt_io_at(table, values[1].u32, size) : NULL;
    char *done = gt_io_at(table, values[5].u32, 4);
    ssize_t moved;
    int descriptor = -1, failure;
    if (values[3].u32 == 0 && values[4].u32 != 0 && name_size != 0 && from != NULL && done != NULL)
        descriptor = gt_io_enter(table, number, GT_IO_ANSWERS, &word);
    if (descriptor < 0)
        return gt_io_fall_back(data, caller, values, count);
    peer = peer_of(&name);
    if (!(own_peer(descriptor, &own) && gt_peers_has_sent(table->peers, &own, &peer))
        && !gt_peers_may_dial(table->peers, &peer)) {
        gt_io_leave(table, number);
        return gt_io_fall_back(data, caller, values, count);
    }
    do
        moved = sendto(descriptor, from, size, MSG_DONTWAIT | MSG_NOSIGNAL, &name.any, name_size);
    while (moved < 0 && errno == EINTR);
    failure = moved < 0 ? errno : 0;
    gt_io_leave(table, number);
    if (!failure) {
        sent = (uint32_t)moved;
        memcpy(done, &sent, 4);
    }
    return gt_io_result(table, values, failure);
}

const IoFunction gt_socket_functions[] = {
    {"net_socket", net_socket}, {"net_connect", net_connect}, {"net_accept", net_accept}, {"net_name", net_name},
    {"net_getsockopt", net_getsockopt}, {"net_setsockopt", net_setsockopt}, {"net_shutdown", net_shutdown},
    {"net_receive", net_receive}, {"net_send", net_send}, {NULL, NULL}};
