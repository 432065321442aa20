/* Folders without Python: making, removing, renaming and listing what is in them. wasi/calls/path.py and fd_readdir in
   wasi/calls/fd.py are the same in Python, and serve what is not here.

   The folder that has a path's last part is opened by the kernel, beneath a folder (gt_io_open_beneath), and the last
   part is given to a call that follows no link. So it does not matter what is renamed meanwhile: the call acts in a
   folder that was inside, or on nothing. */

#include "io.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The last part of a path, in its folder. */
typedef struct {
    char path[PATH_MAX];   /* cut at the slash before the last part */
    const char *above, *name; /* above: NULL if there is no such slash. A slash after the last part is kept */
    uint32_t number;         /* the folder that was entered, */
    int entered, folder;     /* its descriptor, and that of the folder with the last part */
} Place;

/* 0 if it is a path for Python, which finds what is wrong with it. */
static int split(Place *place)
{
    char *path = place->path, *slash;
    size_t whole = strlen(path), size = whole;
    if (path[0] == '/' || path[0] == 0)
        return 0;
    while (path[size - 1] == '/')
        size--;
    path[size] = 0;
    slash = strrchr(path, '/');
    place->name = slash == NULL ? path : slash + 1;
    place->above = slash == NULL ? NULL : path;
    if (strcmp(place->name, ".") == 0 || strcmp(place->name, "..") == 0)
        return 0;
    if (size != whole)
        memcpy(path + size, "/", 2);
    if (slash != NULL)
        *slash = 0;
    return 1;
}

enum { FOR_PYTHON = -1 };

/* Enters a folder that may be changed, and opens the one that has a path's last part. 0, an error number, or
   FOR_PYTHON; only after 0 it is to be left. */
static int enter(IoTable *table, uint32_t number, uint32_t path, uint32_t size, Place *place)
{
    uint64_t word;
    int failure;
    if (!table->beneath || !gt_io_copy_path(table, path, size, place->path) || !split(place))
        return FOR_PYTHON;
    place->number = number;
    place->entered = gt_io_enter(table, number, GT_IO_FOLDER, &word);
    if (place->entered < 0)
        return FOR_PYTHON;
    if (word & GT_IO_READ_ONLY) {
        gt_io_leave(table, number);
        return FOR_PYTHON;
    }
    place->folder = place->above == NULL ? place->entered
                                         : gt_io_open_beneath(place->entered, place->above, O_PATH | O_DIRECTORY);
    if (place->folder >= 0)
        return 0;
    failure = errno;
    gt_io_leave(table, number);
    return failure;
}

static void leave(IoTable *table, const Place *place)
{
    if (place->folder != place->entered)
        close(place->folder);
    gt_io_leave(table, place->number);
}

static int make_folder(const Place *place)
{
    return mkdirat(place->folder, place->name, 0777);
}

static int remove_folder(const Place *place)
{
    return unlinkat(place->folder, place->name, AT_REMOVEDIR);
}

static int remove_file(const Place *place)
{
    return unlinkat(place->folder, place->name, 0);
}

static void *change(void *data, void *caller, Value *values, size_t count, int (*call)(const Place *))
{
    IoTable *table = gt_io_table(data);
    Place place;
    int failure = enter(table, values[0].u32, values[1].u32, values[2].u32, &place);
    if (failure == FOR_PYTHON)
        return gt_io_fall_back(data, caller, values, count);
    if (failure == 0) {
        failure = call(&place) ? errno : 0;
        leave(table, &place);
    }
    return gt_io_result(table, values, failure);
}

/* path_create_directory, path_remove_directory and path_unlink_file(fd, path, length) */
static void *path_create_directory(void *data, void *caller, Value *values, size_t count)
{
    return change(data, caller, values, count, make_folder);
}

static void *path_remove_directory(void *data, void *caller, Value *values, size_t count)
{
    return change(data, caller, values, count, remove_folder);
}

static void *path_unlink_file(void *data, void *caller, Value *values, size_t count)
{
    return change(data, caller, values, count, remove_file);
}

/* path_rename(fd, path, length, to_fd, to_path, to_length) */
static void *path_rename(void *data, void *caller, Value *values, size_t count)
{
    IoTable *table = gt_io_table(data);
    Place from, to;
    int failure = enter(table, values[0].u32, values[1].u32, values[2].u32, &from);
    if (failure == 0) {
        failure = enter(table, values[3].u32, values[4].u32, values[5].u32, &to);
        if (failure == 0) {
            failure = renameat(from.folder, from.name, to.folder, to.name) ? errno : 0;
            leave(table, &to);
        }
        leave(table, &from);
    }
    if (failure == FOR_PYTHON)
        return gt_io_fall_back(data, caller, values, count);
    return gt_io_result(table, values, failure);
}

/* Listings. One that fits into the module's buffer is served here, without anything to remember: its last entry has the
   cookie LAST, for which there is nothing more. Larger ones are Python's, which keeps a copy of the folder's entries
   while the module reads them in parts: what is added or removed meanwhile must not move the others. */

#define LAST UINT64_MAX

typedef struct {
    uint64_t next, inode;
    uint32_t size;
    uint8_t type, unused[3];
} Entry;

/* As the kernel writes it: getdents64(2). */
typedef struct {
    uint64_t inode;
    int64_t offset;
    uint16_t size;
    uint8_t type;
    char name[];
} KernelEntry;

_Static_assert(sizeof(Entry) == 24 && offsetof(KernelEntry, name) == 19, "WASI's and Linux's sizes");

typedef struct {
    char *to;
    size_t room, used;
    char *last; /* the latest entry */
    uint64_t count;
} Listing;

/* 0 if there is no room. */
static int add(Listing *listing, uint64_t inode, uint8_t type, const char *name)
{
    size_t size = strlen(name);
    Entry made = {.next = listing->count + 1, .inode = inode, .size = (uint32_t)size, .type = type};
    if (sizeof made + size > listing->room - listing->used)
        return 0;
    listing->last = listing->to + listing->used;
    memcpy(listing->last, &made, sizeof made);
    memcpy(listing->last + sizeof made, name, size);
    listing->used += sizeof made + size;
    listing->count++;
    return 1;
}

/* WASI's type, as wasi/listings.py has it: only of these. */
static uint8_t type_of(uint8_t type)
{
    return type == DT_DIR ? 3 : type == DT_REG ? 4 : type == DT_LNK ? 7 : 0;
}

/* Lists a folder that was opened for this. 1; 0 if it does not fit, or must be asked for more; -1 with errno. */
static int list(int folder, Listing *listing)
{
    char buffer[8192] __attribute__((aligned(8)));
    const KernelEntry *entry;
    struct stat found;
    long size, place;
    if (fstat(folder, &found))
        return -1;
    /* What is above is not told. */
    if (!add(listing, found.st_ino, 3, ".") || !add(listing, found.st_ino, 3, ".."))
        return 0;
    while ((size = syscall(SYS_getdents64, folder, buffer, sizeof buffer)) > 0)
        for (place = 0; place < size; place += entry->size) {
            entry = (const KernelEntry *)(buffer + place);
            if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
                continue;
            if (entry->type == DT_UNKNOWN || !add(listing, entry->inode, type_of(entry->type), entry->name))
                return 0;
        }
    return size < 0 ? -1 : 1;
}

/* fd_readdir(fd, buffer, size, cookie, done) */
static void *fd_readdir(void *data, void *caller, Value *values, size_t count)
{
    IoTable *table = gt_io_table(data);
    uint32_t number = values[0].u32, used;
    uint64_t word, cookie = values[3].u64;
    Listing listing = {.to = gt_io_at(table, values[1].u32, values[2].u32), .room = values[2].u32};
    char *done = gt_io_at(table, values[4].u32, 4);
    int folder = -1, own, all = 1, failure = 0;
    if (listing.to != NULL && done != NULL && (cookie == 0 || cookie == LAST))
        folder = gt_io_enter(table, number, GT_IO_FOLDER, &word);
    if (folder < 0)
        return gt_io_fall_back(data, caller, values, count);
    if (cookie == 0) {
        own = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* for a position of its own */
        all = own < 0 ? -1 : list(own, &listing);
        failure = all < 0 ? errno : 0;
        if (own >= 0)
            close(own);
    }
    gt_io_leave(table, number);
    if (all == 0)
        return gt_io_fall_back(data, caller, values, count);
    if (!failure) {
        if (listing.count > 0)
            memcpy(listing.last, &(uint64_t){LAST}, sizeof(uint64_t));
        used = (uint32_t)listing.used;
        memcpy(done, &used, 4);
    }
    return gt_io_result(table, values, failure);
}

const IoFunction gt_folder_functions[] = {
    {"path_create_directory", path_create_directory}, {"path_remove_directory", path_remove_directory},
    {"path_unlink_file", path_unlink_file}, {"path_rename", path_rename}, {"fd_readdir", fd_readdir}, {NULL, NULL}};
