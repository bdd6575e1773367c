/* The load: many peers in one process, cheap enough not to be what is measured.
 *
 * Usage: load MODE HOST PORT PEERS SIZE IN_FLIGHT REPLY [REQUEST]
 *
 *   exchange   PEERS connections, each with one message of SIZE bytes on its way, whose
 *              answer has REPLY bytes.  REQUEST is the message; without it the message is
 *              a pattern that has to come back.
 *   accept     PEERS connections at a time, each made, read to its end, and closed.
 *   datagrams  PEERS sockets, each with IN_FLIGHT datagrams of SIZE bytes on their way.
 *   read       PEERS connections that are read as fast as they give.  They are new ones for
 *              each turn: what a reader that pauses leaves behind is lost to TCP's own timers.
 *   write      PEERS connections that are written to as fast as they take.
 *
 * It says "ready" when all are connected.  Each line on standard input, a number of seconds,
 * has it work for so long (0: one message each), and is answered by a line of JSON.  What is
 * on its way at the end is waited for.  It ends with its input.
 *
 * For "exchange" a second number on the line is a rate: so many messages a second are planned, at
 * equal distances.  Each is sent at its time, or when a connection is free again, and its time
 * counts from the plan: a server that stalls delays every message that was due meanwhile.
 */

#include "common.h" /* first: it asks for what is Linux's own */
#include "counted.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/sendfile.h>

#define PATIENCE 30              /* seconds of silence after which it gives up */
#define LOST 1000000000          /* ns without an answer after which datagrams are lost */
#define PIECE (1 << 20)          /* bytes read or written at once */
#define WINDOW 64                /* datagrams on their way per socket, at most */
#define WAITING 256              /* connections that may wait for the server to take them in */
#define SOURCES 8                /* addresses of 127.0.0.0/8 that connections come from */

struct peer {
    int fd;
    size_t sent, got;            /* bytes of the message now on its way */
    uint64_t began;              /* when it set out, or when an answer last came */
    uint32_t next, expected;     /* numbers of the datagrams */
};

static struct sockaddr_in server;
static struct peer *peers;
static int count, in_flight, epoll;
static size_t size, reply;
static char *request, *answer;
static bool pattern, stopping, planned;
static long busy;                /* messages on their way, of all peers */
static int file;                 /* what is written from, without a copy */

static void die(const char *what)
{
    fprintf(stderr, "load: %s\n", what);
    exit(1);
}

static void connect_socket(int fd)
{
    check(connect(fd, (struct sockaddr *)&server, sizeof server), "connect");
}

/* On loopback, come from one of several addresses: the server may remember each port for long. */
static void choose_source(int fd, int number)
{
    struct sockaddr_in source = {.sin_family = AF_INET};
    if (ntohl(server.sin_addr.s_addr) >> 24 != 127)
        return;
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + number % SOURCES);
    set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    check(bind(fd, (struct sockaddr *)&source, sizeof source), "bind");
}

/* Messages on connections. */

static void send_message(struct peer *peer)
{
    ssize_t sent = send(peer->fd, request + peer->sent, size - peer->sent, MSG_NOSIGNAL);
    if (sent < 0 && !later())
        fail("send");
    peer->sent += sent > 0 ? sent : 0;
}

static void begin_message_at(struct peer *peer, uint64_t began)
{
    peer->sent = peer->got = 0;
    peer->began = began;
    busy++;
    send_message(peer);
}

static void begin_message(struct peer *peer)
{
    begin_message_at(peer, now());
}

/* The peers without a message on its way, while messages are planned: a ring. */
static struct {
    struct peer **peers;
    int first, count;
} idle;

static void add_idle(struct peer *peer)
{
    peer->sent = size;
    peer->got = reply;
    idle.peers[(idle.first + idle.count++) % count] = peer;
}

static struct peer *take_idle(void)
{
    struct peer *peer = idle.peers[idle.first];
    idle.first = (idle.first + 1) % count;
    idle.count--;
    return peer;
}

static void message_ready(struct peer *peer)
{
    if (peer->sent < size)
        send_message(peer);
    while (peer->got < reply) {
        ssize_t got = recv(peer->fd, answer + peer->got, reply - peer->got, 0);
        if (got < 0 && later())
            return;
        if (got < 0)
            fail("recv");
        if (got == 0)
            die("the server has closed a connection");
        peer->got += got;
        /* Those answers that are not complete share the room, so each piece is looked at now. */
        if (pattern && memcmp(answer + peer->got - got, request + peer->got - got, got))
            die("what came back is not what was sent");
    }
    record(now() - peer->began);
    counted.bytes += reply;
    busy--;
    if (planned)
        add_idle(peer);
    else if (!stopping)
        begin_message(peer);
}

/* Connections: the oldest is waited for, in a call that blocks, since that costs the least. */

static void begin_connection(struct peer *peer)
{
    static int number;
    peer->began = now();
    peer->fd = check(socket(AF_INET, SOCK_STREAM, 0), "socket");
    choose_source(peer->fd, number++);
    connect_socket(peer->fd);
}

static void end_connection(struct peer *peer)
{
    ssize_t got;
    while ((got = recv(peer->fd, answer, PIECE, 0)) > 0)
        continue;
    if (got == 0)
        record(now() - peer->began);
    else
        counted.lost++;
    close(peer->fd);
}

static void visit(uint64_t until)
{
    for (int i = 0; i < count; i++)
        begin_connection(&peers[i]);
    for (int left = count, oldest = 0; left > 0; oldest = (oldest + 1) % count) {
        end_connection(&peers[oldest]);
        if (now() < until)
            begin_connection(&peers[oldest]);
        else
            left--;
    }
}

/* Datagrams: each begins with the time, and with its number among those of its socket. */

struct head {
    uint64_t sent;
    uint32_t number;
};

static struct mmsghdr messages[WINDOW];
static struct iovec pieces[WINDOW];

static void prepare_batch(int length, size_t room)
{
    for (int i = 0; i < length; i++) {
        pieces[i] = (struct iovec){answer + i * size, room};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
    }
}

static void send_datagrams(struct peer *peer, int length)
{
    prepare_batch(length, size);
    for (int i = 0; i < length; i++) {
        struct head head = {now(), peer->next++};
        memcpy(answer + i * size, &head, sizeof head);
    }
    int sent = sendmmsg(peer->fd, messages, length, 0);
    if (sent < 0 && !later())
        fail("sendmmsg");
    busy += length; /* those that the system did not take are lost as others are */
}

static void begin_datagrams(struct peer *peer)
{
    peer->began = now();
    peer->expected = peer->next;
    send_datagrams(peer, in_flight);
}

/* Count those whose successors have come, or that nobody waits for any more. */
static void lose(struct peer *peer, uint32_t until)
{
    uint32_t missing = until - peer->expected;
    counted.lost += missing;
    busy -= missing;
    peer->expected = until;
}

static void datagrams_ready(struct peer *peer)
{
    prepare_batch(in_flight, size);
    int got = recvmmsg(peer->fd, messages, in_flight, MSG_DONTWAIT, NULL);
    if (got < 0 && !later())
        fail("recvmmsg");
    uint32_t before = peer->expected;
    uint64_t arrived = now();
    for (int i = 0; i < got; i++) {
        struct head head;
        if (messages[i].msg_len != size)
            die("an answer of another size than the request");
        memcpy(&head, answer + i * size, sizeof head);
        record(arrived - head.sent);
        if ((int32_t)(head.number - peer->expected) < 0)
            continue; /* given up before; it was on its way all the same */
        lose(peer, head.number);
        peer->expected++;
        busy--;
    }
    if (got > 0)
        peer->began = arrived;
    if (!stopping && peer->expected != before)
        send_datagrams(peer, peer->expected - before);
}

static void give_up_the_silent(void)
{
    for (int i = 0; i < count; i++) {
        struct peer *peer = &peers[i];
        if (peer->next != peer->expected && now() - peer->began > LOST) {
            lose(peer, peer->next);
            if (!stopping)
                begin_datagrams(peer);
        }
    }
}

/* Streams. */

static void read_ready(struct peer *peer)
{
    ssize_t got = recv(peer->fd, NULL, PIECE, MSG_TRUNC); /* dropped without a copy */
    if (got == 0)
        die("the server has closed a stream");
    if (got < 0 && !later())
        fail("recv");
    counted.bytes += got > 0 ? got : 0;
}

static void write_ready(struct peer *peer)
{
    off_t start = 0;
    ssize_t sent = sendfile(peer->fd, file, &start, PIECE);
    if (sent < 0 && !later())
        fail("sendfile");
    counted.bytes += sent > 0 ? sent : 0;
}

/* The modes. */

static const struct mode {
    const char *name;
    int kind;                          /* of the sockets */
    bool stays;                        /* whether they stay from turn to turn */
    uint32_t events;
    void (*begin)(struct peer *);      /* none for what flows by itself */
    void (*ready)(struct peer *);
} modes[] = {
    {"exchange", SOCK_STREAM, true, EPOLLIN | EPOLLOUT | EPOLLET, begin_message, message_ready},
    {"accept", SOCK_STREAM, false, 0, NULL, NULL},
    {"datagrams", SOCK_DGRAM, true, EPOLLIN, begin_datagrams, datagrams_ready},
    {"read", SOCK_STREAM, false, EPOLLIN, NULL, read_ready},
    {"write", SOCK_STREAM, true, EPOLLOUT, NULL, write_ready},
};

/* One message on a socket that still blocks: the server has taken in all who came before. */
static void ask(int fd)
{
    for (size_t sent = 0; sent < size;)
        sent += check(send(fd, request + sent, size - sent, MSG_NOSIGNAL), "send");
    for (size_t got = 0; got < reply;) {
        int more = check(recv(fd, answer, reply - got, 0), "recv");
        if (more == 0)
            die("the server has closed a connection");
        got += more;
    }
}

static void connect_peers(const struct mode *mode)
{
    for (int i = 0; i < count; i++) {
        int fd = peers[i].fd = check(socket(AF_INET, mode->kind, 0), "socket");
        connect_socket(fd);
        if (mode->kind == SOCK_DGRAM)
            set_option(fd, SOL_SOCKET, SO_RCVBUF, 1 << 20);
        else
            set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
        if (mode->begin == begin_message && i % WAITING == WAITING - 1)
            ask(fd); /* so that nobody finds the backlog full, and has to try again */
        check(fcntl(fd, F_SETFL, O_NONBLOCK), "fcntl");
        watch(epoll, fd, mode->events, &peers[i]);
    }
}

/* Work until the time is over, and what is on its way has come back. */
static void work(const struct mode *mode, uint64_t until)
{
    struct epoll_event ready[EVENTS];
    uint64_t looked = now();
    if (!mode->stays)
        connect_peers(mode);
    stopping = until <= looked; /* no time: one message each */
    for (int i = 0; mode->begin && i < count; i++)
        mode->begin(&peers[i]);
    do {
        int events = epoll_wait(epoll, ready, EVENTS, 20);
        uint64_t time = now();
        stopping = time >= until;
        for (int i = 0; i < events && (mode->begin || !stopping); i++)
            mode->ready(ready[i].data.ptr);
        if (mode->kind == SOCK_DGRAM && time - looked > LOST / 10) {
            looked = time;
            give_up_the_silent();
        }
    } while (!stopping || busy > 0);
    for (int i = 0; !mode->stays && i < count; i++)
        close(peers[i].fd);
}

/* Send *rate* messages a second at their planned times.  It does not sleep, so that the time in
 * which the system wakes it up is no part of a figure. */
static void work_to_plan(const struct mode *mode, uint64_t began, double seconds, double rate)
{
    struct epoll_event ready[EVENTS];
    uint64_t total = seconds * rate;
    idle.count = 0;
    for (int i = 0; i < count; i++)
        add_idle(&peers[i]);
    for (uint64_t sent = 0; sent < total || busy > 0;) {
        for (; sent < total && idle.count > 0; sent++) {
            uint64_t due = began + sent * 1e9 / rate;
            if (due > now())
                break;
            begin_message_at(take_idle(), due);
        }
        int events = epoll_wait(epoll, ready, EVENTS, 0);
        for (int i = 0; i < events; i++) {
            struct peer *peer = ready[i].data.ptr;
            if (peer->got < reply) /* not idle */
                mode->ready(peer);
        }
    }
}

static void turn(const struct mode *mode, double seconds, double rate)
{
    alarm(seconds + PATIENCE);
    memset(&counted, 0, sizeof counted);
    uint64_t began = now(), cpu = clock_now(CLOCK_PROCESS_CPUTIME_ID);
    planned = rate > 0 && mode->begin == begin_message;
    if (!mode->ready)
        visit(began + seconds * 1e9);
    else if (planned)
        work_to_plan(mode, began, seconds, rate);
    else
        work(mode, began + seconds * 1e9);
    printf("{\"operations\": %llu, \"bytes\": %llu, \"lost\": %llu, \"seconds\": %.6f, "
           "\"cpu\": %.6f, \"p50\": %.3f, \"p99\": %.3f, \"p999\": %.3f}\n",
           (unsigned long long)counted.operations, (unsigned long long)counted.bytes,
           (unsigned long long)counted.lost, (now() - began) / 1e9,
           (clock_now(CLOCK_PROCESS_CPUTIME_ID) - cpu) / 1e9,
           percentile(0.5), percentile(0.99), percentile(0.999));
    fflush(stdout);
    alarm(0);
}

static const struct mode *mode_of(const char *name)
{
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (!strcmp(modes[i].name, name))
            return &modes[i];
    die("no such mode");
    return NULL;
}

static void prepare(char **words, int length)
{
    server = address_of(words[2], atoi(words[3]));
    count = atoi(words[4]);
    size = atoi(words[5]);
    in_flight = atoi(words[6]);
    reply = atoi(words[7]);
    if (count < 1 || in_flight < 1 || in_flight > WINDOW || size > PIECE / WINDOW)
        die("too few or too many");
    peers = calloc(count, sizeof *peers);
    idle.peers = calloc(count, sizeof *idle.peers);
    answer = calloc(1, PIECE + (reply > PIECE ? reply : 0));
    pattern = length < 9;
    request = pattern ? malloc(size) : words[8];
    for (size_t i = 0; pattern && i < size; i++)
        request[i] = 'a' + i % 26;
    file = check(memfd_create("load", 0), "memfd_create");
    check(ftruncate(file, PIECE), "ftruncate");
    if (mode_of(words[1])->kind == SOCK_DGRAM && size < sizeof(struct head))
        die("a datagram has at least 16 bytes");
}

int main(int length, char **words)
{
    char line[64];
    if (length < 8 || length > 9)
        die("usage: load MODE HOST PORT PEERS SIZE IN_FLIGHT REPLY [REQUEST]");
    const struct mode *mode = mode_of(words[1]);
    prepare(words, length);
    raise_descriptors();
    alarm(PATIENCE);
    epoll = check(epoll_create1(0), "epoll_create1");
    if (mode->stays)
        connect_peers(mode);
    alarm(0);
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        double seconds = 0, rate = 0;
        sscanf(line, "%lf %lf", &seconds, &rate);
        turn(mode, seconds, rate);
    }
    return 0;
}
