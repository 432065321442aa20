/* wasi-threads by hand (https://github.com/WebAssembly/wasi-threads): what a libc with pthreads does, without one. */

#include <stdatomic.h>
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(#name)))
#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define WASI(name) IMPORT("wasi_snapshot_preview1", #name)

IMPORT("wasi", "thread-spawn") int32_t thread_spawn(void *start);
WASI(fd_write) int32_t fd_write(int32_t fd, const void *vectors, int32_t count, int32_t *written);
WASI(fd_read) int32_t fd_read(int32_t fd, const void *vectors, int32_t count, int32_t *read);
WASI(poll_oneoff) int32_t poll_oneoff(const void *subscriptions, void *events, int32_t count, int32_t *done);
WASI(clock_time_get) int32_t clock_time_get(int32_t clock, int64_t precision, uint64_t *time);
WASI(proc_exit) _Noreturn void proc_exit(int32_t code);
void __wasm_init_tls(void *);

/* A thread's stack grows down from its end; its thread-local variables lie at its beginning. The first two fields are known to the code below. */
enum { STACK = 8192, MOST = 600 };
struct thread {
	char *stack;
	atomic_int taken;
	void (*run)(int32_t);
	int32_t argument;
};
static char stacks[MOST][STACK] __attribute__((aligned(16)));
static struct thread threads[MOST];

/* Run a function on a thread of its own; its number, or less than 0. */
static int32_t start(void (*run)(int32_t), int32_t argument) {
	for (int i = 0; i < MOST; i++) {
		struct thread *thread = &threads[i];
		int none = 0;
		if (!atomic_compare_exchange_strong(&thread->taken, &none, 1))
			continue;
		thread->stack = stacks[i] + STACK;
		thread->run = run, thread->argument = argument;
		int32_t number = thread_spawn(thread);
		if (number < 0)
			atomic_store(&thread->taken, 0);
		return number;
	}
	return -1;
}

void run_thread(int32_t number, struct thread *thread) {
	(void)number;
	__wasm_init_tls(thread->stack - STACK);
	thread->run(thread->argument);
}

/* The stack is free for the next when nothing is on it any more. */
__asm__(".globaltype __stack_pointer, i32\n"
        ".functype run_thread (i32, i32) -> ()\n"
        ".globl wasi_thread_start\n"
        ".export_name wasi_thread_start, wasi_thread_start\n"
        ".type wasi_thread_start, @function\n"
        "wasi_thread_start:\n"
        ".functype wasi_thread_start (i32, i32) -> ()\n"
        "local.get 1\n i32.load 0\n global.set __stack_pointer\n"
        "local.get 0\n local.get 1\n call run_thread\n"
        "local.get 1\n i32.const 0\n i32.atomic.store 4\n"
        "end_function\n");

static int wait(atomic_int *word, int expected) { return __builtin_wasm_memory_atomic_wait32((int *)word, expected, -1); }
static void wake(atomic_int *word) { __builtin_wasm_memory_atomic_notify((int *)word, -1); }

static void print(const char *text, int length) {
	struct { const char *text; int length; } vector = {text, length};
	int32_t written;
	fd_write(1, &vector, 1, &written);
}
