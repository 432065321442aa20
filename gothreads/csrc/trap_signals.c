/* Keeps wasmtime's handlers for the signals that WebAssembly's traps need, whatever the program does with these
   signals.

   wasmtime installs its handlers with the process's first engine. A handler turns a fault in compiled code into a trap,
   and passes any other fault on to the handler that it replaced. But signal.signal and faulthandler call sigaction,
   which would replace wasmtime's handler: the next trap in any thread would then kill the process. Restoring the
   handler afterwards would leave a window. So the interpreter's own calls of sigaction are redirected (in its global
   offset table) to `wish`, which only records the new action. And before the first engine is made, `pass_on` is
   installed; wasmtime replaces it, and passes other faults on to it:

       kernel -> wasmtime's handler -> (not a trap) pass_on -> what the program has asked for

   That is faulthandler, Python's handler, or the system's default.

   Invariant: from take_signals on, the kernel's action for each signal in `taken` is pass_on, and then wasmtime's
   handler for good. Only pass_on itself changes it, to the default, when the process is about to die.

   pass_on reads a wish in a signal handler, and faulthandler writes one in a signal handler, so there are no locks. The
   handler in a wish (`sa_sigaction`) is one word, which is read once, and pass_on acts on nothing else. The rest of a
   wish is only reported back to the interpreter.

   A synchronous fault whose signal is blocked also kills the process. So pthread_sigmask is redirected too, and never
   blocks these signals. */

#define _GNU_SOURCE
#include "fast.h"

#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

static const int trap_signals[] = {SIGILL, SIGSEGV, SIGFPE, SIGBUS};
#define SIGNALS (sizeof trap_signals / sizeof *trap_signals)

typedef void (*Handler)(int, siginfo_t *, void *);
#define DEFAULT ((Handler)(uintptr_t)SIG_DFL)
#define IGNORE ((Handler)(uintptr_t)SIG_IGN)

static struct sigaction wishes[SIGNALS];
static volatile sig_atomic_t taken[SIGNALS]; /* whether the program's wishes are recorded instead of carried out */

static size_t place_of(int number)
{
    size_t place = 0;
    while (place < SIGNALS && trap_signals[place] != number)
        place++;
    return place;
}

static Handler handler_of(const struct sigaction *action)
{
    /* sa_handler and sa_sigaction are the same field. */
    return __atomic_load_n(&action->sa_sigaction, __ATOMIC_ACQUIRE);
}

/* Handles a fault outside WebAssembly as the program has asked. */
static void pass_on(int number, siginfo_t *info, void *context)
{
    Handler handler = handler_of(&wishes[place_of(number)]);
    int sent = info->si_code <= 0; /* sent by kill: it will not recur by itself */
    struct sigaction action;
    if (handler != DEFAULT && handler != IGNORE) {
        handler(number, info, context); /* a handler that takes only the number ignores the other arguments */
        return;
    }
    if (handler == IGNORE && sent)
        return;
    /* The process ends here, even if the wish is to ignore the fault: the system does not ignore faults either. */
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    sigaction(number, &action, NULL);
    if (sent)
        raise(number);
}

/* Replaces sigaction in the interpreter. */
static int wish(int number, const struct sigaction *action, struct sigaction *old)
{
    size_t place = place_of(number);
    struct sigaction before;
    if (place == SIGNALS || !taken[place])
        return sigaction(number, action, old);
    before = wishes[place];
    if (action != NULL) {
        wishes[place].sa_flags = action->sa_flags;
        wishes[place].sa_mask = action->sa_mask;
        __atomic_store_n(&wishes[place].sa_sigaction, action->sa_sigaction, __ATOMIC_RELEASE);
    }
    if (old != NULL)
        *old = before;
    return 0;
}

/* Replaces pthread_sigmask in the interpreter. */
static int mask(int how, const sigset_t *set, sigset_t *old)
{
    sigset_t fewer;
    size_t place;
    if (set != NULL && how != SIG_UNBLOCK) {
        fewer = *set;
        for (place = 0; place < SIGNALS; place++)
            if (taken[place])
                sigdelset(&fewer, trap_signals[place]);
        set = &fewer;
    }
    return pthread_sigmask(how, set, old);
}

static const struct {
    const char *name;
    uintptr_t instead;
} redirected[] = {{"sigaction", (uintptr_t)wish}, {"pthread_sigmask", (uintptr_t)mask}};

/* Overwrites a slot of the global offset table, which may have been made read-only after the dynamic linker filled it
   in. 1 if that succeeded. */
static int redirect(uintptr_t *slot, uintptr_t instead, int read_only)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    void *start = (void *)((uintptr_t)slot & ~(page - 1));
    if (read_only && mprotect(start, page, PROT_READ | PROT_WRITE))
        return 0;
    __atomic_store_n(slot, instead, __ATOMIC_RELEASE);
    if (read_only)
        mprotect(start, page, PROT_READ);
    return 1;
}

/* Callback for dl_iterate_phdr: redirects calls in the object that contains the interpreter, and ends the iteration
   there with a bit set for each redirected name. */
static int redirect_object(struct dl_phdr_info *object, size_t size, void *interpreter)
{
    const ElfW(Dyn) *dynamic = NULL;
    uintptr_t base = object->dlpi_addr, entries[2] = {0, 0}, sizes[2] = {0, 0};
    uintptr_t names = 0, symbols = 0, relro = 0, relro_end = 0;
    int here = 0, done = 0, table;
    size_t place, which;
    (void)size;
    for (place = 0; place < object->dlpi_phnum; place++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[place];
        uintptr_t start = base + part->p_vaddr;
        if (part->p_type == PT_LOAD && (uintptr_t)interpreter - start < part->p_memsz)
            here = 1;
        else if (part->p_type == PT_DYNAMIC)
            dynamic = (const ElfW(Dyn) *)start;
        else if (part->p_type == PT_GNU_RELRO)
            relro = start, relro_end = start + part->p_memsz;
    }
    if (!here || dynamic == NULL)
        return 0;
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        /* musl does not relocate these addresses. */
        uintptr_t value = dynamic->d_un.d_val, address = value < base ? base + value : value;
        switch (dynamic->d_tag) {
        case DT_JMPREL: entries[0] = address; break;
        case DT_PLTRELSZ: sizes[0] = value; break;
        case DT_RELA: entries[1] = address; break;
        case DT_RELASZ: sizes[1] = value; break;
        case DT_STRTAB: names = address; break;
        case DT_SYMTAB: symbols = address; break;
        }
    }
    for (table = 0; table < 2; table++)
        for (place = 0; place < sizes[table] / sizeof(ElfW(Rela)); place++) {
            const ElfW(Rela) *entry = (const ElfW(Rela) *)entries[table] + place;
            const ElfW(Sym) *symbol = (const ElfW(Sym) *)symbols + (entry->r_info >> 32);
            uintptr_t slot = base + entry->r_offset;
            if (symbol != (const ElfW(Sym) *)symbols)
                for (which = 0; which < sizeof redirected / sizeof *redirected; which++)
                    if (strcmp((const char *)names + symbol->st_name, redirected[which].name) == 0)
                        done |= redirect((uintptr_t *)slot, redirected[which].instead,
                                         slot >= relro && slot < relro_end) << which;
        }
    return done;
}

/* take_signals(address of one of wasmtime's functions) -> whether the interpreter's calls could be redirected. Call it
   before the first engine. */
static PyObject *take_signals(PyObject *self, PyObject *function)
{
    struct sigaction action;
    Dl_info its, wasmtime;
    size_t place;
    void *address = PyLong_AsVoidPtr(function);
    (void)self;
    if (address == NULL && PyErr_Occurred())
        return NULL;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = pass_on;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK; /* the same as wasmtime's */
    if (dl_iterate_phdr(redirect_object, (void *)(uintptr_t)PyErr_CheckSignals) != 3)
        Py_RETURN_FALSE;
    for (place = 0; place < SIGNALS; place++) {
        sigaction(trap_signals[place], NULL, &wishes[place]);
        /* If another user of wasmtime has already made an engine, wasmtime's handler is installed already, and
           stays. */
        if (!dladdr(address, &wasmtime) || !dladdr((void *)(uintptr_t)wishes[place].sa_sigaction, &its)
            || its.dli_fbase != wasmtime.dli_fbase)
            sigaction(trap_signals[place], &action, NULL);
        taken[place] = 1;
    }
    Py_RETURN_TRUE;
}

/* keep_signals(): call it after the first engine. Gives signals that wasmtime does not use back to the program. */
static PyObject *keep_signals(PyObject *self, PyObject *unused)
{
    struct sigaction action;
    size_t place;
    (void)self;
    (void)unused;
    for (place = 0; place < SIGNALS; place++) {
        sigaction(trap_signals[place], NULL, &action);
        if (action.sa_sigaction == pass_on) {
            taken[place] = 0;
            sigaction(trap_signals[place], &wishes[place], NULL);
        }
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"take_signals", take_signals, METH_O,
     "take_signals(address)\n\n"
     "Take the trap signals over. To be called before the first engine, with the address of a function of wasmtime.\n"
     "False if the interpreter's calls of sigaction cannot be redirected."},
    {"keep_signals", keep_signals, METH_NOARGS,
     "keep_signals()\n\nGive back the signals that wasmtime does not use. To be called after the first engine."},
    {NULL, NULL, 0, NULL},
};

int gt_add_trap_signals(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
