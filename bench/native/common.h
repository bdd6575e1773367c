/* What the servers and the load generator share. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 512

/* End with what the system says of the last call. */
static inline void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Give the result of a call, or end where it is an error. */
static inline int check(int result, const char *what)
{
    if (result < 0)
        fail(what);
    return result;
}

/* Whether a call on a non-blocking socket has to be made again later. */
static inline int later(void)
{
    return errno == EAGAIN || errno == EINTR;
}

/* IPv4 address and port as the kernel takes them. */
static inline struct sockaddr_in address_of(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        fprintf(stderr, "%s: not an IPv4 address\n", host);
        exit(64);
    }
    return address;
}

/* Allow as many descriptors as the system lets us have. */
static inline void raise_descriptors(void)
{
    struct rlimit limit;
    check(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    check(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
}

static inline void set_option(int fd, int level, int name, int value)
{
    check(setsockopt(fd, level, name, &value, sizeof value), "setsockopt");
}

/* Have epoll tell of a descriptor. */
static inline void watch(int epoll, int fd, uint32_t events, void *data)
{
    struct epoll_event event = {.events = events, .data.ptr = data};
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}
