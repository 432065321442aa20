/* The addresses that a module may use without asking Python (wasi/peers.py): those that the rules are known to allow,
   and those that have sent datagrams to a socket of the module's that listens, which may answer them.

   Invariants:
   - An address is `allowed` only as long as the rules allow it. Who is about to ask them notes the version first; who
     changes what they would say (a name's address is forgotten, a private port opened) raises it, and forgets all. So
     what was asked before is not kept after:

         asks       reads version 1   rules: yes                        keeps it, for version 1: refused
         changes                                   changes   version 2

   - Of the senders the latest MOST_SENDERS are known, exactly: a server may have to answer any of them. They are in a
     list, the latest first, and in the chains of a hash table, whose seed the senders do not know.

   The lock guards all of it, and is held for some hundred nanoseconds. */

#include "io.h"

#include <stdlib.h>
#include <sys/random.h>

enum { MOST_ALLOWED = 256, MOST_SENDERS = 16384, NONE = MOST_SENDERS };

typedef struct {
    Peer own, sender;
    uint32_t chained, later, earlier; /* the next in its chain; its neighbours in the list */
} Sender;

static PyTypeObject *Peers_type;

struct Peers {
    PyObject_HEAD
    pthread_mutex_t lock;
    uint64_t seed;
    uint64_t version;
    Peer allowed[MOST_ALLOWED]; /* each at its hash, or zeros */
    /* Allocated when the first sender is added. */
    Sender *senders;
    uint32_t *chains; /* by hash, the first sender */
    uint32_t count, latest, earliest;
};

static uint64_t hash(const Peers *peers, const Peer *peer)
{
    uint64_t word, mixed = peers->seed;
    size_t place;
    for (place = 0; place < sizeof peer->bytes; place += sizeof word) {
        memcpy(&word, peer->bytes + place, sizeof word);
        mixed = (mixed ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        mixed ^= mixed >> 29;
    }
    return mixed;
}

static uint32_t *chain_of(const Peers *peers, const Peer *own, const Peer *sender)
{
    return &peers->chains[(hash(peers, own) * 31 + hash(peers, sender)) % MOST_SENDERS];
}

static int same(const Peer *one, const Peer *other)
{
    return memcmp(one, other, sizeof *one) == 0;
}

/* Allowed addresses. */

int gt_peers_may_dial(Peers *peers, const Peer *peer)
{
    int found;
    pthread_mutex_lock(&peers->lock);
    found = same(&peers->allowed[hash(peers, peer) % MOST_ALLOWED], peer);
    pthread_mutex_unlock(&peers->lock);
    return found;
}

/* Senders. The caller holds the lock. */

static uint32_t find(const Peers *peers, const Peer *own, const Peer *sender)
{
    uint32_t place;
    if (peers->senders == NULL)
        return NONE;
    for (place = *chain_of(peers, own, sender); place != NONE; place = peers->senders[place].chained)
        if (same(&peers->senders[place].own, own) && same(&peers->senders[place].sender, sender))
            break;
    return place;
}

static int allocate(Peers *peers)
{
    uint32_t place;
    if (peers->senders != NULL)
        return 1;
    peers->chains = malloc(MOST_SENDERS * sizeof *peers->chains);
    peers->senders = peers->chains == NULL ? NULL : malloc(MOST_SENDERS * sizeof *peers->senders);
    if (peers->senders == NULL) {
        free(peers->chains);
        peers->chains = NULL;
        return 0;
    }
    for (place = 0; place < MOST_SENDERS; place++)
        peers->chains[place] = NONE;
    peers->latest = peers->earliest = NONE;
    return 1;
}

static void put_first(Peers *peers, uint32_t place)
{
    Sender *sender = &peers->senders[place];
    sender->later = NONE;
    sender->earlier = peers->latest;
    if (peers->latest != NONE)
        peers->senders[peers->latest].later = place;
    else
        peers->earliest = place;
    peers->latest = place;
}

static void take_out(Peers *peers, uint32_t place)
{
    Sender *sender = &peers->senders[place];
    if (sender->later != NONE)
        peers->senders[sender->later].earlier = sender->earlier;
    else
        peers->latest = sender->earlier;
    if (sender->earlier != NONE)
        peers->senders[sender->earlier].later = sender->later;
    else
        peers->earliest = sender->later;
}

/* A place for another sender: a new one, or that of the earliest. */
static uint32_t make_place(Peers *peers)
{
    uint32_t place = peers->earliest, *link;
    Sender *sender;
    if (peers->count < MOST_SENDERS)
        return peers->count++;
    sender = &peers->senders[place];
    take_out(peers, place);
    for (link = chain_of(peers, &sender->own, &sender->sender); *link != place; link = &peers->senders[*link].chained)
        ;
    *link = sender->chained;
    return place;
}

void gt_peers_add_sender(Peers *peers, const Peer *own, const Peer *sender)
{
    uint32_t place, *chain;
    pthread_mutex_lock(&peers->lock);
    if (allocate(peers)) {
        place = find(peers, own, sender);
        if (place != NONE) {
            take_out(peers, place);
        } else {
            place = make_place(peers);
            chain = chain_of(peers, own, sender);
            peers->senders[place] = (Sender){.own = *own, .sender = *sender, .chained = *chain};
            *chain = place;
        }
        put_first(peers, place);
    }
    pthread_mutex_unlock(&peers->lock);
}

int gt_peers_has_sent(Peers *peers, const Peer *own, const Peer *peer)
{
    int found;
    pthread_mutex_lock(&peers->lock);
    found = find(peers, own, peer) != NONE;
    pthread_mutex_unlock(&peers->lock);
    return found;
}

/* Methods for Python. A peer is the first 24 bytes of an address (wasi/socket_address.py). */

static PyObject *Peers_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Peers *self;
    if (PyTuple_Size(args) != 0 || (kwargs != NULL && PyDict_Size(kwargs) != 0)) {
        PyErr_SetString(PyExc_TypeError, "Peers takes no arguments");
        return NULL;
    }
    self = (Peers *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    pthread_mutex_init(&self->lock, NULL);
    if (getrandom(&self->seed, sizeof self->seed, GRND_NONBLOCK) < 0)
        self->seed = (uint64_t)(uintptr_t)self; /* early in the machine's boot */
    return (PyObject *)self;
}

static void Peers_dealloc(PyObject *object)
{
    Peers *self = (Peers *)object;
    pthread_mutex_destroy(&self->lock);
    free(self->senders);
    free(self->chains);
    gt_free_object(object);
}

static int peer_of(const char *bytes, Py_ssize_t size, Peer *peer)
{
    if (size == (Py_ssize_t)sizeof peer->bytes) {
        memcpy(peer->bytes, bytes, sizeof peer->bytes);
        return 1;
    }
    PyErr_SetString(PyExc_ValueError, "Peers: not an address");
    return 0;
}

static int pair_of(PyObject *args, Peer *own, Peer *sender)
{
    const char *first, *second;
    Py_ssize_t first_size, second_size;
    return PyArg_ParseTuple(args, "y#y#", &first, &first_size, &second, &second_size)
           && peer_of(first, first_size, own) && peer_of(second, second_size, sender);
}

static PyObject *add_sender(PyObject *object, PyObject *args)
{
    Peer own, sender;
    if (!pair_of(args, &own, &sender))
        return NULL;
    gt_peers_add_sender((Peers *)object, &own, &sender);
    Py_RETURN_NONE;
}

static PyObject *has_sent(PyObject *object, PyObject *args)
{
    Peer own, sender;
    if (!pair_of(args, &own, &sender))
        return NULL;
    return PyBool_FromLong(gt_peers_has_sent((Peers *)object, &own, &sender));
}

static PyObject *version(PyObject *object, PyObject *unused)
{
    Peers *peers = (Peers *)object;
    uint64_t current;
    (void)unused;
    pthread_mutex_lock(&peers->lock);
    current = peers->version;
    pthread_mutex_unlock(&peers->lock);
    return PyLong_FromUnsignedLongLong(current);
}

static PyObject *allow(PyObject *object, PyObject *args)
{
    Peers *peers = (Peers *)object;
    const char *bytes;
    Py_ssize_t size;
    unsigned long long asked;
    Peer peer;
    if (!PyArg_ParseTuple(args, "y#K:allow", &bytes, &size, &asked) || !peer_of(bytes, size, &peer))
        return NULL;
    pthread_mutex_lock(&peers->lock);
    if (peers->version == asked)
        peers->allowed[hash(peers, &peer) % MOST_ALLOWED] = peer;
    pthread_mutex_unlock(&peers->lock);
    Py_RETURN_NONE;
}

static PyObject *forget(PyObject *object, PyObject *unused)
{
    Peers *peers = (Peers *)object;
    (void)unused;
    pthread_mutex_lock(&peers->lock);
    peers->version++;
    memset(peers->allowed, 0, sizeof peers->allowed);
    pthread_mutex_unlock(&peers->lock);
    Py_RETURN_NONE;
}

static PyMethodDef Peers_methods[] = {
    {"add_sender", add_sender, METH_VARARGS,
     "add_sender(own, sender)\n\nThe sender has sent to the socket with that address."},
    {"has_sent", has_sent, METH_VARARGS, "has_sent(own, sender)\n\nWhether the sender is one of the latest."},
    {"version", version, METH_NOARGS, "version()\n\nTo be read before the rules are asked."},
    {"allow", allow, METH_VARARGS,
     "allow(address, version)\n\nThe rules allow an address, unless they have changed since the version was read."},
    {"forget", forget, METH_NOARGS, "forget()\n\nThe rules may say something else now."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot Peers_slots[] = {
    {Py_tp_new, Peers_new},
    {Py_tp_dealloc, Peers_dealloc},
    {Py_tp_methods, Peers_methods},
    {Py_tp_doc, "Peers()\n\nThe addresses that a module may use without a look at the rules."},
    {0, NULL},
};
static PyType_Spec Peers_spec = {
    "gothreads._fast.Peers", sizeof(Peers), 0, Py_TPFLAGS_DEFAULT, Peers_slots,
};

Peers *gt_peers_of(PyObject *object)
{
    if (PyObject_TypeCheck(object, Peers_type))
        return (Peers *)object;
    PyErr_SetString(PyExc_TypeError, "not Peers");
    return NULL;
}

int gt_add_peers(PyObject *module)
{
    Peers_type = gt_add_type(module, &Peers_spec, "Peers");
    return Peers_type == NULL ? -1 : 0;
}
