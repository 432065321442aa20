/* Looks at which goroutine each of Go's processors runs, again and again, without stopping or slowing anything: it only
   reads the module's memory.

       allp ──▶ {array, length}    array[i] ──▶ P    P.m ──▶ M    M.curg ──▶ G: its id, status, and where it began

   Go's threads write these words meanwhile, and a hostile module writes what it likes. So:

   Bounds. Each address is checked against the memory's size, which never shrinks, before it is used. A look reads at
   most GT_MOST_PROCS Ps, ten words each, and follows no chain; so it takes a bounded time whatever is there.

   Truth. Each word is read once, in one piece. What was read of a G counts only if afterwards P.m is still that M and
   M.curg that G, and if its status was "running". Let the M do this while a look is between the two checks:

       M    leaves G1: M.curg = nil   │ runs G2: M.curg = G2                    the second check sees another G: no sighting
       M    leaves G1, runs it again, or a new goroutine in the same struct     the id is read before and after the start, so
                                                                                both are of one of the two, which ran on this M
                                                                                during the look

   An M in a system call or a host call keeps its curg, whose status tells; it runs nothing of Go's. A P with an M and no
   curg is scheduling, collecting garbage or looking for work: goroutine 0.

   A sighting counts until the next look, for two intervals at most: after a pause of this thread there is a gap in the
   record, not a guess. Goroutines that run between two looks only are not seen. */

#include "fast.h"

#include <errno.h>

/* The most processors that are looked at; and the most runs of one call. */
#define GT_MOST_PROCS 256
#define GT_MOST_RUNS 2048

/* Go's _Grunning, and its flag _Gscan. */
enum { RUNNING = 2, SCAN = 0x1000 };

/* A goroutine that runs on an M: runtime/scheduler_watch.py reads these. Times are in µs since the call began. */
typedef struct {
    uint64_t m, goroutine, start;
    uint32_t proc, begin, end, padding;
} Run;

typedef struct {
    const char *memory;
    uint64_t size;
    uint64_t allp, p_m, m_id, m_curg, g_id, g_status, g_start; /* an address, and offsets */
} View;

/* A word at base + offset; 0 if it is not an aligned one in the memory. */
static int load(const View *view, uint64_t base, uint64_t offset, uint64_t *word)
{
    uint64_t at = base + offset;
    if (UNLIKELY(base > view->size || offset > view->size || at + 8 > view->size || at % 8))
        return 0;
    *word = __atomic_load_n((const uint64_t *)(view->memory + at), __ATOMIC_ACQUIRE);
    return 1;
}

/* What the P at this address runs. False if it runs nothing, or what that is has changed meanwhile. */
static int sight(const View *view, uint64_t p, Run *seen)
{
    uint64_t m, g, status, id_again, m_again, g_again;
    if (!load(view, p, view->p_m, &m) || m == 0 || !load(view, m, view->m_id, &seen->m)
        || !load(view, m, view->m_curg, &g))
        return 0;
    seen->goroutine = seen->start = 0;
    if (g != 0) {
        /* The status has four bytes; the word around it is read, since nothing else needs smaller ones. */
        if (!load(view, g, view->g_status & ~7ULL, &status) || !load(view, g, view->g_id, &seen->goroutine)
            || !load(view, g, view->g_start, &seen->start) || !load(view, g, view->g_id, &id_again)
            || id_again != seen->goroutine)
            return 0;
        status = (status >> (8 * (view->g_status & 7))) & 0xffffffff;
        if ((status & ~(uint64_t)SCAN) != RUNNING)
            return 0;
    }
    return load(view, p, view->p_m, &m_again) && m_again == m && load(view, m, view->m_curg, &g_again) && g_again == g;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void sleep_until(uint64_t ns)
{
    struct timespec until = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

/* Looks until `looks` are done, *stop is set, or there is no room for more runs. Returns how many runs there are. */
static size_t record(View *view, const void *shared, uint64_t interval, uint64_t looks, const uint8_t *stop, Run *runs,
                     uint64_t begun)
{
    static const Run none;
    Run open[GT_MOST_PROCS];
    uint8_t is_open[GT_MOST_PROCS] = {0};
    uint64_t next = begun, before = begun, now = begun;
    size_t found = 0, place;
    for (; looks > 0 && !__atomic_load_n(stop, __ATOMIC_ACQUIRE) && found + 2 * GT_MOST_PROCS <= GT_MOST_RUNS; looks--) {
        uint64_t array = 0, length = 0, p, ended;
        sleep_until(next);
        now = now_ns();
        /* The end of what the look before saw. */
        ended = now - before < 2 * interval ? now : before + interval;
        view->size = gt_sharedmemory_data_size(shared);
        if (!load(view, view->allp, 0, &array) || !load(view, view->allp, 8, &length))
            length = 0;
        for (place = 0; place < GT_MOST_PROCS; place++) {
            Run seen = none;
            int is_seen = place < length && load(view, array, 8 * place, &p) && p != 0 && sight(view, p, &seen);
            if (is_open[place]) {
                if (is_seen && ended == now && seen.m == open[place].m && seen.goroutine == open[place].goroutine)
                    continue;
                open[place].end = (uint32_t)((ended - begun) / 1000);
                runs[found++] = open[place];
            }
            if ((is_open[place] = (uint8_t)is_seen)) {
                open[place] = seen;
                open[place].proc = (uint32_t)place;
                open[place].begin = (uint32_t)((now - begun) / 1000);
            }
        }
        before = now;
        next = next + interval > now ? next + interval : now + interval;
    }
    for (place = 0; place < GT_MOST_PROCS; place++)
        if (is_open[place]) {
            open[place].end = (uint32_t)((now + interval - begun) / 1000);
            runs[found++] = open[place];
        }
    return found;
}

/* scheduler_runs(memory, shared, layout, interval, looks, stop) -> (when it began in ns, runs as bytes) */
static PyObject *scheduler_runs(PyObject *self, PyObject *args)
{
    unsigned long long memory, shared, interval, looks, words[7];
    Py_buffer stop;
    View view;
    Run *runs;
    PyObject *result;
    uint64_t begun;
    size_t found;
    (void)self;
    if (!PyArg_ParseTuple(args, "KK(KKKKKKK)KKy*:scheduler_runs", &memory, &shared, &words[0], &words[1], &words[2],
                          &words[3], &words[4], &words[5], &words[6], &interval, &looks, &stop))
        return NULL;
    if (stop.len < 1 || interval < 1000 || interval > 1000000000 || looks > 10000000
        || looks * (interval / 1000) > 10000000) {
        PyBuffer_Release(&stop);
        PyErr_SetString(PyExc_ValueError, "scheduler_runs: at most 10 s, with intervals from 1 µs to 1 s");
        return NULL;
    }
    view = (View){(const char *)(uintptr_t)memory, 0, words[0], words[1], words[2], words[3], words[4], words[5],
                  words[6]};
    runs = PyMem_Malloc(GT_MOST_RUNS * sizeof *runs);
    if (runs == NULL) {
        PyBuffer_Release(&stop);
        return PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS
    begun = now_ns();
    found = record(&view, (const void *)(uintptr_t)shared, interval, looks, stop.buf, runs, begun);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&stop);
    result = Py_BuildValue("Ky#", (unsigned long long)begun, (const char *)runs, (Py_ssize_t)(found * sizeof *runs));
    PyMem_Free(runs);
    return result;
}

static PyMethodDef functions[] = {
    {"scheduler_runs", scheduler_runs, METH_VARARGS,
     "scheduler_runs(memory, shared, layout, interval, looks, stop)\n\n"
     "Look so many times, `interval` ns apart, at what Go's processors run; ends early when the first byte of `stop` is\n"
     "set. Returns when it began (monotonic, in ns) and what was seen, as bytes. The memory must not be freed\n"
     "meanwhile."},
    {NULL, NULL, 0, NULL},
};

int gt_add_scheduler(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
