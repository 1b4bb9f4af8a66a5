/* Reads cases for the validators in C: lines "WORD VALUE", an empty line ends a case. Documents are DER in hex. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 16

struct blob {
    unsigned char *data;
    unsigned size;
};

struct question {
    struct blob leaf, ocsp, chain[MOST], roots[MOST], crls[MOST];
    unsigned chains, rootss, crlss;
    long long at;
    int leaf_only, listing;
    char *host, *purpose;
};

static void die(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(2);
}

static struct blob hex(const char *text) {
    struct blob made = {malloc(strlen(text) / 2 + 1), strlen(text) / 2};
    for (unsigned i = 0; i < made.size; i++) {
        unsigned octet;
        if (sscanf(text + 2 * i, "%2x", &octet) != 1) die("not hex");
        made.data[i] = octet;
    }
    return made;
}

static void add(struct blob *list, unsigned *count, const char *text) {
    if (*count == MOST) die("too many documents");
    list[(*count)++] = hex(text);
}

static void take(struct question *q, const char *word, char *value) {
    if (!strcmp(word, "leaf")) q->leaf = hex(value);
    else if (!strcmp(word, "ocsp")) q->ocsp = hex(value);
    else if (!strcmp(word, "chain")) add(q->chain, &q->chains, value);
    else if (!strcmp(word, "root")) add(q->roots, &q->rootss, value);
    else if (!strcmp(word, "crl")) add(q->crls, &q->crlss, value);
    else if (!strcmp(word, "at")) q->at = atoll(value);
    else if (!strcmp(word, "leaf_only")) q->leaf_only = atoi(value);
    else if (!strcmp(word, "listing")) q->listing = atoi(value);
    else if (!strcmp(word, "host")) q->host = strdup(value);
    else if (!strcmp(word, "purpose")) q->purpose = strdup(value);
    else die("unknown word");
}

/* The next case; 0 at the end. What it holds is never freed: the process ends soon. */
static int next(struct question *q) {
    static char *line;
    static size_t size;
    memset(q, 0, sizeof *q);
    q->host = q->purpose = "";
    while (getline(&line, &size, stdin) > 0) {
        line[strcspn(line, "\n")] = 0;
        if (!*line) return 1;
        char *value = strchr(line, ' ');
        if (!value) die("no value");
        *value++ = 0;
        take(q, line, value);
    }
    return 0;
}
