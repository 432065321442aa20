/* A wasi-threads library: exports start threads, and wait for them. */

#include "wasi_threads.h"

static atomic_int running, counter, mutex, never;
static _Atomic int64_t never64;
static int guarded;

static void lock(atomic_int *mutex) {
	int free = 0;
	if (atomic_compare_exchange_strong(mutex, &free, 1))
		return;
	while (atomic_exchange(mutex, 2) != 0)
		wait(mutex, 2);
}

static void unlock(atomic_int *mutex) {
	if (atomic_exchange(mutex, 0) == 2)
		wake(mutex);
}

static void finished(void) {
	atomic_fetch_sub(&running, 1);
	wake(&running);
}

static int32_t start_counted(void (*run)(int32_t), int32_t argument) {
	atomic_fetch_add(&running, 1);
	int32_t number = start(run, argument);
	if (number < 0)
		finished();
	return number;
}

/* Wait until all threads that were counted have finished. */
EXPORT(join) void join(void) {
	for (int left; (left = atomic_load(&running)) != 0;)
		wait(&running, left);
}

static void add(int32_t rounds) {
	for (; rounds > 0; rounds--) {
		atomic_fetch_add(&counter, 1);
		lock(&mutex);
		guarded++;
		unlock(&mutex);
	}
	finished();
}

EXPORT(start_adders) int32_t start_adders(int32_t number, int32_t rounds) {
	int32_t started = 0;
	for (; number > 0; number--)
		started += start_counted(add, rounds) > 0;
	return started;
}

EXPORT(counter) int32_t get_counter(void) { return atomic_load(&counter); }
EXPORT(guarded) int32_t get_guarded(void) { return guarded; }
EXPORT(running) int32_t get_running(void) { return atomic_load(&running); }
EXPORT(plus) int32_t plus(int32_t a, int32_t b) { return a + b; }

/* Threads that start threads. */
static void branch(int32_t depth) {
	atomic_fetch_add(&counter, 1);
	for (int i = 0; i < 2 && depth > 0; i++)
		start_counted(branch, depth - 1);
	finished();
}

EXPORT(tree) int32_t tree(int32_t depth) {
	start_counted(branch, depth);
	join();
	return atomic_load(&counter);
}

/* A ball that goes from thread to thread. */
static atomic_int ball;
static int players, throws;

static void play(int32_t me) {
	for (int now; (now = atomic_load(&ball)) < throws;) {
		if (now % players != me) {
			wait(&ball, now);
			continue;
		}
		atomic_fetch_add(&ball, 1);
		wake(&ball);
	}
	finished();
}

EXPORT(pass) int32_t pass(int32_t number, int32_t times) {
	players = number, throws = times;
	atomic_store(&ball, 0);
	for (int i = 0; i < number; i++)
		if (start_counted(play, i) < 0)
			return -1;
	join();
	return atomic_load(&ball);
}

/* Each thread's own variables are fresh. */
static _Thread_local int mine = 7;
static atomic_int wrong;

static void look(int32_t rounds) {
	for (int i = 0; i < rounds; i++)
		atomic_fetch_add(&wrong, mine++ != 7 + i);
	finished();
}

EXPORT(thread_locals) int32_t thread_locals(int32_t number) {
	mine = 1000;
	for (int i = 0; i < number; i++)
		start_counted(look, 100);
	join();
	return atomic_load(&wrong) + (mine != 1000);
}

/* Time does not go back from one thread to the next. */
static uint64_t latest;

static void tell_time(int32_t rounds) {
	uint64_t now;
	for (; rounds > 0; rounds--) {
		lock(&mutex);
		clock_time_get(1, 1, &now);
		atomic_fetch_add(&wrong, now < latest);
		latest = now;
		unlock(&mutex);
	}
	finished();
}

EXPORT(times) int32_t times(int32_t number, int32_t rounds) {
	for (int i = 0; i < number; i++)
		start_counted(tell_time, rounds);
	join();
	return atomic_load(&wrong);
}

static void say(int32_t letter) {
	char line[] = {letter, letter, letter, '\n'};
	print(line, 4);
	finished();
}

EXPORT(print_all) void print_all(int32_t number) {
	for (int i = 0; i < number; i++)
		start_counted(say, 'a' + i);
	join();
}

/* What only the end of the app ends. */
static atomic_int there; /* threads that have got there */

EXPORT(there) int32_t get_there(void) { return atomic_load(&there); }

static void park(int32_t how) {
	atomic_fetch_add(&there, 1);
	if (how == 0)
		wait(&never, 0);
	else if (how == 1)
		__builtin_wasm_memory_atomic_wait64((long long *)&never64, 0, -1);
	else
		while (1) /* again and again, as who waits for a condition does */
			wait(&never, 0);
}

static void spin(int32_t none) {
	(void)none;
	atomic_fetch_add(&there, 1);
	for (volatile int i = 0;; i++) {}
}

static void sleep(int32_t seconds) {
	uint64_t subscription[6] = {0, 0, 1, seconds * 1000000000ull, 1, 0};
	char event[32];
	int32_t done;
	atomic_fetch_add(&there, 1);
	poll_oneoff(subscription, event, 1, &done);
}

static void read(int32_t fd) {
	char byte;
	struct { char *to; int size; } vector = {&byte, 1};
	int32_t done;
	atomic_fetch_add(&there, 1);
	fd_read(fd, &vector, 1, &done);
}

EXPORT(start_parked) int32_t start_parked(int32_t how) { return start(park, how); }
EXPORT(start_spinner) int32_t start_spinner(void) { return start(spin, 0); }
EXPORT(start_sleeper) int32_t start_sleeper(void) { return start(sleep, 3600); }
EXPORT(start_reader) int32_t start_reader(void) { return start(read, 0); }
EXPORT(park) void park_here(int32_t how) { park(how); }
EXPORT(spin) void spin_here(void) { spin(0); }
EXPORT(sleep) void sleep_here(int32_t seconds) { sleep(seconds); }
EXPORT(wait_nanoseconds) int32_t wait_nanoseconds(int64_t time) { return __builtin_wasm_memory_atomic_wait32((int *)&never, 0, time); }
EXPORT(wait_for_other) int32_t wait_for_other(void) { return wait(&never, 1); }

/* Ends: at once, or of a thread when the host has changed the word at `trigger` and woken who waits there. */
static atomic_int trigger;

static void end(int32_t code) {
	if (code < 0)
		__builtin_trap();
	proc_exit(code);
}

static void end_later(int32_t code) {
	atomic_fetch_add(&there, 1);
	while (atomic_load(&trigger) == 0)
		wait(&trigger, 0);
	end(code);
}

EXPORT(trigger) int32_t get_trigger(void) { return (int32_t)&trigger; }
EXPORT(start_ender) int32_t start_ender(int32_t code) { return start(end_later, code); }
EXPORT(end) void end_here(int32_t code) { end(code); }
