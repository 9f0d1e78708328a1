/* Sends a pcap file's frames over an interface again and again, at a steady rate.
 *
 *     live_sender INTERFACE FILE PACKETS_PER_S SECONDS
 *
 * Each time around, hosts of 10.0.0.0/8 (the clients) are others: their second octet counts.  Checksums are left wrong.
 * Prints how many frames the kernel took and in how many seconds.  Reads little-endian pcap files of Ethernet.
 * Sources: packet(7) (PACKET_QDISC_BYPASS), sendmmsg(2), pcap-savefile(5).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, FRAMES_MAX = 1 << 22 };

static void rename_clients(struct iovec *frames, long count, uint8_t round) {
    for (long i = 0; i < count; i++) {
        uint8_t *ip = (uint8_t *)frames[i].iov_base + 14;
        if (frames[i].iov_len < 34 || ip[-2] != 8 || ip[-1] != 0) continue;
        if (ip[12] == 10) ip[13] = round;
        if (ip[16] == 10) ip[17] = round;
    }
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    double rate = atof(argv[3]), seconds = atof(argv[4]);
    FILE *file = fopen(argv[2], "rb");
    if (!file) { perror(argv[2]); return 1; }
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    uint8_t *octets = malloc(size);
    if (!octets || fread(octets, 1, size, file) != (size_t)size) { perror("read"); return 1; }

    static struct iovec frames[FRAMES_MAX];
    long count = 0;
    for (long at = 24; at + 16 <= size && count < FRAMES_MAX; count++) {
        uint32_t captured;
        memcpy(&captured, octets + at + 8, 4);
        frames[count].iov_base = octets + at + 16;
        frames[count].iov_len = captured;
        at += 16 + captured;
    }
    int s = socket(AF_PACKET, SOCK_RAW, 0);
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(argv[1])};
    if (s < 0 || bind(s, (struct sockaddr *)&to, sizeof to)) { perror("socket"); return 1; }
    int one = 1;
    setsockopt(s, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);

    static struct mmsghdr batch[BATCH];
    for (int i = 0; i < BATCH; i++) batch[i].msg_hdr.msg_iovlen = 1;
    double begin = now(), end = begin + seconds, t;
    long sent = 0, next = 0, rounds = 0;
    while ((t = now()) < end) {
        if (sent > (t - begin) * rate) { usleep(50); continue; }
        for (int i = 0; i < BATCH; i++) {
            batch[i].msg_hdr.msg_iov = &frames[(next + i) % count];
        }
        int taken = sendmmsg(s, batch, BATCH, 0);
        if (taken < 0 && errno != ENOBUFS && errno != EAGAIN) { perror("sendmmsg"); return 1; }
        if (taken <= 0) continue;
        sent += taken;
        next += taken;
        if (next >= count) {
            next -= count;
            rename_clients(frames, count, ++rounds);
        }
    }
    printf("%ld %.3f\n", sent, now() - begin);
    return 0;
}
