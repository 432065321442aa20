/* Files without Python: wasi/calls/fd.py and wasi/calls/path.py are the same in Python, and serve what is not here. The
   calls on descriptors of any kind are here, too; what changes or lists a folder is in folder_io.c.

   A path is looked up by the kernel, beneath a folder (openat2 with RESOLVE_BENEATH), with the flags of wasi/openat.py.
   Where openat2 is missing, no folder is served here. */

#include "io.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#if !defined(SYS_openat2)
#define SYS_openat2 437
#endif
#define RESOLVE_NO_MAGIC_LINKS 0x02
#define RESOLVE_BENEATH 0x08

/* WASI's flags, types and rights. */
enum { FOLLOW = 1 };
enum { CREATE = 1, DIRECTORY = 2, EXCLUSIVE = 4, TRUNCATE = 8 };
enum { APPEND = 1, DSYNC = 2, NONBLOCK = 4, RSYNC = 8, SYNC = 16, ALL_FLAGS = 31 };
enum { BLOCK_DEVICE = 1, CHARACTER_DEVICE, A_DIRECTORY, REGULAR_FILE, SOCKET_STREAM = 6, SYMBOLIC_LINK };
#define RIGHT_READ ((uint64_t)1 << 1)
#define RIGHT_WRITE ((uint64_t)1 << 6)
#define ALL_RIGHTS (((uint64_t)1 << 30) - 1)
/* The most bytes that one call transfers (wasi/process.py). */
#define LARGEST_TRANSFER ((uint32_t)1 << 30)

typedef struct {
    uint64_t device, inode;
    uint8_t type, unused[7];
    uint64_t links, size, accessed, modified, changed;
} FileStat;

typedef struct {
    uint8_t type, unused;
    uint16_t flags;
    uint32_t unused_too;
    uint64_t rights, inheriting;
} FdStat;

_Static_assert(sizeof(FileStat) == 64 && sizeof(FdStat) == 24, "WASI's sizes");

int gt_socket_read(IoTable *table, int descriptor, const Value *values);
int gt_socket_write(IoTable *table, int descriptor, const Value *values);

/* Reading and writing. */

/* One vector of a file, at an offset, or where the file is (offset -1). Returns an error number. */
static int transfer(IoTable *table, int descriptor, int writing, const Value *values, int64_t offset, uint32_t result)
{
    uint32_t address, size, moved32;
    char *vector = gt_io_at(table, values[1].u32, 8), *done = gt_io_at(table, result, 4), *bytes;
    ssize_t moved;
    if (vector == NULL || done == NULL)
        return EFAULT;
    memcpy(&address, vector, 4); /* once: other threads may change it */
    memcpy(&size, vector + 4, 4);
    if (size > LARGEST_TRANSFER)
        return EINVAL;
    bytes = gt_io_at(table, address, size);
    if (bytes == NULL)
        return EFAULT;
    do
        if (offset < 0)
            moved = writing ? write(descriptor, bytes, size) : read(descriptor, bytes, size);
        else
            moved = writing ? pwrite(descriptor, bytes, size, offset) : pread(descriptor, bytes, size, offset);
    while (moved < 0 && errno == EINTR);
    if (moved < 0)
        return errno;
    moved32 = (uint32_t)moved;
    memcpy(done, &moved32, 4);
    return 0;
}

/* fd_read and fd_write(fd, vectors, count, done), fd_pread and fd_pwrite(fd, vectors, count, offset, done) */
static void *input_output(void *data, void *caller, Value *values, size_t count, int writing, int at_offset)
{
    IoTable *table = gt_io_table(data);
    uint32_t number = values[0].u32;
    uint64_t word;
    int64_t offset = at_offset ? values[3].i64 : -1;
    int failure, descriptor = -1;
    if (values[2].u32 == 1 && (!at_offset || offset >= 0))
        descriptor = gt_io_enter(table, number, at_offset ? GT_IO_FILE : GT_IO_FILE | GT_IO_SOCKET, &word);
    if (descriptor < 0)
        return gt_io_fall_back(data, caller, values, count);
    if (word & GT_IO_SOCKET) {
        failure = writing ? gt_socket_write(table, descriptor, values) : gt_socket_read(table, descriptor, values);
    } else if (!(word & (writing ? GT_IO_WRITES : GT_IO_READS))) {
        failure = EBADF;
    } else {
        failure = transfer(table, descriptor, writing, values, offset, values[at_offset ? 4 : 3].u32);
    }
    gt_io_leave(table, number);
    return gt_io_result(table, values, failure);
}

static void *fd_read(void *data, void *caller, Value *values, size_t count)
{
    return input_output(data, caller, values, count, 0, 0);
}

static void *fd_write(void *data, void *caller, Value *values, size_t count)
{
    return input_output(data, caller, values, count, 1, 0);
}

static void *fd_pread(void *data, void *caller, Value *values, size_t count)
{
    return input_output(data, caller, values, count, 0, 1);
}

static void *fd_pwrite(void *data, void *caller, Value *values, size_t count)
{
    return input_output(data, caller, values, count, 1, 1);
}

/* fd_seek(fd, offset, whence, result) */
static void *fd_seek(void *data, void *caller, Value *values, size_t count)
{
    IoTable *table = gt_io_table(data);
    uint32_t number = values[0].u32, whence = values[2].u32;
    uint64_t word;
    char *result = gt_io_at(table, values[3].u32, 8);
    off_t place;
    int failure, descriptor = whence <= SEEK_END && result != NULL ? gt_io_enter(table, number, GT_IO_FILE, &word) : -1;
    if (descriptor < 0)
        return gt_io_fall_back(data, caller, values, count);
    place = lseek(descriptor, values[1].i64, (int)whence);
    failure = place < 0 ? errno : 0;
    gt_io_leave(table, number);
    if (!failure)
        memcpy(result, &place, 8);
    return gt_io_result(table, values, failure);
}

/* Attributes. */

static uint8_t type_of(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFBLK:
        return BLOCK_DEVICE;
    case S_IFCHR:
        return CHARACTER_DEVICE;
    case S_IFDIR:
        return A_DIRECTORY;
    case S_IFREG:
        return REGULAR_FILE;
    case S_IFSOCK:
        return SOCKET_STREAM;
    case S_IFLNK:
        return SYMBOLIC_LINK;
    default:
        return 0; /* WASI has no type for a FIFO */
    }
}

static uint64_t nanoseconds(struct timespec time)
{
    __int128 all = (__int128)time.tv_sec * 1000000000 + time.tv_nsec;
    return all < 0 ? 0 : (uint64_t)all;
}

static void put_attributes(const struct stat *found, char *result)
{
    FileStat made = {.device = found->st_dev, .inode = found->st_ino, .type = type_of(found->st_mode),
                     .links = found->st_nlink, .size = (uint64_t)found->st_size,
                     .accessed = nanoseconds(found->st_atim), .modified = nanoseconds(found->st_mtim),
                     .changed = nanoseconds(found->st_ctim)};
    memcpy(result, &made, sizeof made);
}

/* fd_filestat_get(fd, result) */
static void *fd_filestat_get(void *data, void *caller, Value *values, size_t count)
{
    IoTable *table = gt_io_table(data);
    uint32_t number = values[0].u32;
    uint64_t word;
    struct stat found;
    char *result = gt_io_at(table, values[1].u32, sizeof(FileStat));
    int failure, descriptor = result == NULL ? -1 : gt_io_enter(table, number, GT_IO_FILE | GT_IO_FOLDER, &word);
    if (descriptor < 0)
        return gt_io_fall_back(data, caller, values, count);
    failure = fstat(descriptor, &found) ? errno : 0;
    gt_io_leave(table, number);
    if (!failure)
        put_attributes(&found, result);
    return gt_io_result(table, values, failure);
}

static int is_known(uint64_t word)
{
    return (word & GT_IO_OWNED) && (word & (GT_IO_SOCKET | GT_IO_FILE | GT_IO_FOLDER));
}

/* fd_fdstat_get(fd, result) of what C owns: nobody but C knows its flags. */
static void *fd_fdstat_get(void *data, void *caller, Value *values, size_t count)
{
    IoTable *table = gt_io_table(data);
    uint32_t number = values[0].u32;
    uint64_t word = number < GT_IO_NUMBERS ? atomic_load(&table->entries[number]) : 0;
    FdStat made = {.rights = ALL_RIGHTS, .inheriting = ALL_RIGHTS};
    char *result = gt_io_at(table, values[1].u32, sizeof made);
    if (!is_known(word) || result == NULL)
        return gt_io_fall_back(data, caller, values, count);
    made.type = word & GT_IO_SOCKET ? SOCKET_STREAM : word & GT_IO_FILE ? REGULAR_FILE : A_DIRECTORY;
    made.flags = word & GT_IO_SOCKET ? NONBLOCK : (uint16_t)(word >> GT_IO_FDFLAGS_SHIFT & ALL_FLAGS);
    if (!(word & GT_IO_SOCKET))
        made.rights &= ~((word & GT_IO_READS ? 0 : RIGHT_READ) | (word & GT_IO_WRITES ? 0 : RIGHT_WRITE));
    memcpy(result, &made, sizeof made);
    return gt_io_result(table, values, 0);
}

/* fd_fdstat_set_flags(fd, flags): Go asks of each file and each connection whether it may be polled. */
static void *fd_fdstat_set_flags(void *data, void *caller, Value *values, size_t count)
{
    IoTable *table = gt_io_table(data);
    uint32_t number = values[0].u32, flags = values[1].u32;
    uint64_t word = number < GT_IO_NUMBERS ? atomic_load(&table->entries[number]) : 0;
    if (is_known(word) && (word & GT_IO_SOCKET) && flags == NONBLOCK)
        return gt_io_result(table, values, 0);
    if (is_known(word) && !(word & GT_IO_SOCKET) && (flags & NONBLOCK) && !(flags & ~ALL_FLAGS))
        return gt_io_result(table, values, ENOTSUP); /* it never waits */
    return gt_io_fall_back(data, caller, values, count);
}

/* Paths. */

int gt_io_open_beneath(int folder, const char *path, int flags)
{
    struct {
        uint64_t flags, mode, resolve;
    } how = {(uint64_t)flags | O_CLOEXEC, flags & O_CREAT ? 0666 : 0, RESOLVE_BENEATH | RESOLVE_NO_MAGIC_LINKS};
    int tries, descriptor = -1;
    for (tries = 0; tries < 1000; tries++) { /* EAGAIN: something was renamed during the lookup */
        descriptor = (int)syscall(SYS_openat2, folder, path, &how, sizeof how);
        if (descriptor >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
    }
    if (descriptor < 0 && errno == EXDEV)
        errno = EPERM;
    return descriptor;
}

int gt_io_copy_path(const IoTable *table, uint32_t address, uint32_t size, char *path)
{
    const char *from = size < PATH_MAX ? gt_io_at(table, address, size) : NULL;
    if (from == NULL)
        return 0;
    memcpy(path, from, size);
    path[size] = 0;
    return strlen(path) == size;
}

static int is_fifo(int folder, const char *path, int no_follow)
{
    struct stat found;
    int place = gt_io_open_beneath(folder, path, O_PATH | no_follow), yes;
    if (place < 0)
        return 0;
    yes = fstat(place, &found) == 0 && S_ISFIFO(found.st_mode);
    close(place);
    return yes;
}

static int flags_of(uint32_t lookup, uint32_t oflags, uint64_t rights, uint32_t fdflags)
{
    int flags = rights & RIGHT_WRITE ? (rights & RIGHT_READ ? O_RDWR : O_WRONLY) : O_RDONLY;
    flags |= O_NONBLOCK | O_NOCTTY | (lookup & FOLLOW ? 0 : O_NOFOLLOW);
    flags |= (oflags & CREATE ? O_CREAT : 0) | (oflags & DIRECTORY ? O_DIRECTORY : 0);
    flags |= (oflags & EXCLUSIVE ? O_EXCL : 0) | (oflags & TRUNCATE ? O_TRUNC : 0);
    flags |= (fdflags & APPEND ? O_APPEND : 0) | (fdflags & DSYNC ? O_DSYNC : 0);
    return flags | (fdflags & (SYNC | RSYNC) ? O_SYNC : 0);
}

/* Opens a path with a number that was taken, and gives it that number. Returns an error number. */
static int open_as(IoTable *table, int folder, const char *path, int flags, uint64_t marks, uint32_t number)
{
    struct stat found;
    int descriptor = gt_io_open_beneath(folder, path, flags), failure;
    if (descriptor < 0)
        return errno;
    if (fstat(descriptor, &found)) {
        failure = errno;
        close(descriptor);
        return failure;
    }
    if (S_ISREG(found.st_mode))
        marks |= GT_IO_FILE;
    else if (S_ISDIR(found.st_mode))
        marks |= GT_IO_FOLDER;
    return gt_io_own(table, number, descriptor, marks);
}

/* path_open(fd, lookup, path, length, oflags, rights, inheriting, fdflags, result) */
static void *path_open(void *data, void *caller, Value *values, size_t count)
{
    IoTable *table = gt_io_table(data);
    uint32_t number = values[0].u32, oflags = values[4].u32, fdflags = values[7].u32, taken;
    uint64_t rights = values[5].u64, word, marks;
    int flags = flags_of(values[1].u32, oflags, rights, fdflags), folder = -1, failure;
    int writes = (rights & RIGHT_WRITE) != 0, changes = writes || oflags & (CREATE | TRUNCATE);
    char path[PATH_MAX], *result = gt_io_at(table, values[8].u32, 4);
    if (table->beneath && result != NULL && !(fdflags & NONBLOCK)
        && gt_io_copy_path(table, values[2].u32, values[3].u32, path))
        folder = gt_io_enter(table, number, GT_IO_FOLDER, &word);
    if (folder < 0)
        return gt_io_fall_back(data, caller, values, count);
    /* What waits, or is to be refused, is left to Python. */
    if ((changes && word & GT_IO_READ_ONLY)
        || (!(flags & (O_EXCL | O_DIRECTORY)) && is_fifo(folder, path, flags & O_NOFOLLOW))
        || gt_io_take(table, 0, &taken)) {
        gt_io_leave(table, number);
        return gt_io_fall_back(data, caller, values, count);
    }
    marks = (word & GT_IO_READ_ONLY) | (rights & RIGHT_READ || !writes ? GT_IO_READS : 0) | (writes ? GT_IO_WRITES : 0)
            | (uint64_t)(fdflags & ALL_FLAGS) << GT_IO_FDFLAGS_SHIFT;
    failure = open_as(table, folder, path, flags, marks, taken);
    gt_io_leave(table, number);
    if (failure)
        gt_io_give(table, taken);
    else
        memcpy(result, &taken, 4);
    return gt_io_result(table, values, failure);
}

/* path_filestat_get(fd, lookup, path, length, result) */
static void *path_filestat_get(void *data, void *caller, Value *values, size_t count)
{
    IoTable *table = gt_io_table(data);
    uint32_t number = values[0].u32;
    uint64_t word;
    struct stat found;
    char path[PATH_MAX], *result = gt_io_at(table, values[4].u32, sizeof(FileStat));
    int folder = -1, place, failure;
    if (table->beneath && result != NULL && gt_io_copy_path(table, values[2].u32, values[3].u32, path))
        folder = gt_io_enter(table, number, GT_IO_FOLDER, &word);
    if (folder < 0)
        return gt_io_fall_back(data, caller, values, count);
    place = gt_io_open_beneath(folder, path, O_PATH | (values[1].u32 & FOLLOW ? 0 : O_NOFOLLOW));
    failure = place < 0 || fstat(place, &found) ? errno : 0;
    if (place >= 0)
        close(place);
    gt_io_leave(table, number);
    if (!failure)
        put_attributes(&found, result);
    return gt_io_result(table, values, failure);
}

const IoFunction gt_file_functions[] = {
    {"fd_read", fd_read}, {"fd_write", fd_write}, {"fd_pread", fd_pread}, {"fd_pwrite", fd_pwrite},
    {"fd_seek", fd_seek}, {"fd_filestat_get", fd_filestat_get}, {"fd_fdstat_get", fd_fdstat_get},
    {"fd_fdstat_set_flags", fd_fdstat_set_flags}, {"path_open", path_open}, {"path_filestat_get", path_filestat_get},
    {NULL, NULL}};
