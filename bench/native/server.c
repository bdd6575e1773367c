/* The physical limit: each service as a loop in C that does the work and nothing else.
 *
 * Usage: server WORK HOST, where WORK is echo, accept, daytime, udp, udpbatch, chargen or discard.
 * The port is the system's choice; a line tells it.  It serves until it is killed.
 */

#include "common.h"

#define SIZE (256 << 10)
#define BATCH 64
#define LONGEST 2048
#define RING 95
#define WIDTH 72

static char buffer[SIZE];
static size_t chunk; /* bytes of lines in the buffer, for chargen */

/* Open a socket at a port of the system's choice, and tell it. */
static int open_socket(const char *host, int kind, const char *work)
{
    struct sockaddr_in address = address_of(host, 0);
    socklen_t length = sizeof address;
    int datagrams = kind == SOCK_DGRAM;
    int fd = check(socket(AF_INET, kind, 0), "socket");
    if (datagrams)
        set_option(fd, SOL_SOCKET, SO_RCVBUF, 1 << 20);
    check(bind(fd, (struct sockaddr *)&address, length), "bind");
    if (!datagrams)
        check(listen(fd, 1024), "listen");
    check(getsockname(fd, (struct sockaddr *)&address, &length), "getsockname");
    printf("Waiting for %s on %s %s:%d (%s in C)\n", datagrams ? "datagrams" : "connections",
           datagrams ? "udp" : "tcp", host, ntohs(address.sin_port), work);
    fflush(stdout);
    return fd;
}

/* Send all of it; where the peer does not read, wait. */
static int send_all(int fd, const char *data, ssize_t left)
{
    while (left > 0) {
        ssize_t sent = send(fd, data, left, MSG_NOSIGNAL);
        if (sent < 0) {
            struct pollfd writable = {.fd = fd, .events = POLLOUT};
            if (!later())
                return -1;
            poll(&writable, 1, -1);
            continue;
        }
        data += sent;
        left -= sent;
    }
    return 0;
}

/* What is done when a connection is ready; below 0 it has ended. */
static int echo(int fd)
{
    ssize_t got = recv(fd, buffer, sizeof buffer, 0);
    if (got < 0 && later())
        return 0;
    return got <= 0 ? -1 : send_all(fd, buffer, got);
}

static int discard(int fd)
{
    ssize_t got;
    while ((got = recv(fd, buffer, sizeof buffer, 0)) == sizeof buffer)
        continue;
    return got > 0 || (got < 0 && later()) ? 0 : -1;
}

static int chargen(int fd)
{
    while (send(fd, buffer, chunk, MSG_NOSIGNAL) > 0)
        continue;
    return later() ? 0 : -1;
}

static const char *greeting = "";

/* Take in who waits: all get the greeting and are closed at once, or are watched for *events*. */
static void accept_all(int listener, int epoll, uint32_t events)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (!events) {
            send_all(fd, greeting, strlen(greeting));
            close(fd);
            continue;
        }
        set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
        watch(epoll, fd, events, (void *)(intptr_t)fd);
    }
    if (!later() && errno != ECONNABORTED)
        fail("accept4");
}

static void serve_streams(int listener, uint32_t events, int (*serve)(int))
{
    struct epoll_event ready[EVENTS];
    int epoll = check(epoll_create1(0), "epoll_create1");
    watch(epoll, listener, EPOLLIN, (void *)(intptr_t)listener);
    for (;;) {
        int count = epoll_wait(epoll, ready, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = (int)(intptr_t)ready[i].data.ptr;
            if (fd == listener)
                accept_all(listener, epoll, events);
            else if (serve(fd) < 0)
                close(fd);
        }
    }
}

/* One call to receive and one to send for each datagram. */
static void serve_datagrams(int fd)
{
    struct sockaddr_in peer;
    for (;;) {
        socklen_t length = sizeof peer;
        ssize_t got = recvfrom(fd, buffer, LONGEST, 0, (struct sockaddr *)&peer, &length);
        if (got >= 0)
            sendto(fd, buffer, got, 0, (struct sockaddr *)&peer, length);
    }
}

/* One call to receive and one to send for all the datagrams that are there. */
static void serve_batches(int fd)
{
    static struct mmsghdr messages[BATCH];
    static struct iovec pieces[BATCH];
    static struct sockaddr_in peers[BATCH];
    for (int i = 0; i < BATCH; i++) {
        pieces[i].iov_base = buffer + i * LONGEST;
        messages[i].msg_hdr.msg_iov = &pieces[i];
        messages[i].msg_hdr.msg_iovlen = 1;
        messages[i].msg_hdr.msg_name = &peers[i];
    }
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            pieces[i].iov_len = LONGEST;
            messages[i].msg_hdr.msg_namelen = sizeof peers[i];
        }
        int count = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
        for (int i = 0; i < count; i++)
            pieces[i].iov_len = messages[i].msg_len;
        for (int sent = 0; sent < count;) {
            int more = sendmmsg(fd, messages + sent, count - sent, 0);
            sent += more > 0 ? more : 1; /* who cannot be answered is passed over */
        }
    }
}

/* The lines of RFC 864, whole rounds of them, just under 64 KiB. */
static void write_lines(void)
{
    for (int line = 0; line < RING * 9; line++) {
        for (int i = 0; i < WIDTH; i++)
            buffer[chunk++] = 0x20 + (line + i) % RING;
        buffer[chunk++] = '\r';
        buffer[chunk++] = '\n';
    }
}

int main(int count, char **words)
{
    if (count != 3) {
        fprintf(stderr, "usage: server echo|accept|daytime|udp|udpbatch|chargen|discard HOST\n");
        return 64;
    }
    const char *work = words[1], *host = words[2];
    raise_descriptors();
    if (!strncmp(work, "udp", 3)) {
        int fd = open_socket(host, SOCK_DGRAM, work);
        if (strcmp(work, "udp"))
            serve_batches(fd);
        serve_datagrams(fd);
    }
    int listener = open_socket(host, SOCK_STREAM | SOCK_NONBLOCK, work);
    if (!strcmp(work, "daytime"))
        greeting = "Thursday, November 26, 2026 00:59:09-UTC\r\n";
    if (!strcmp(work, "accept") || *greeting)
        serve_streams(listener, 0, NULL);
    if (!strcmp(work, "echo"))
        serve_streams(listener, EPOLLIN, echo);
    if (!strcmp(work, "discard"))
        serve_streams(listener, EPOLLIN, discard);
    write_lines();
    serve_streams(listener, EPOLLOUT, chargen);
}
