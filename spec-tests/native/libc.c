// The functions that native code can stand in for, byte by byte as C defines them.
//
//     clang --target=wasm32 -O1 -fno-builtin -nostdlib -Wl,--no-entry -Wl,--export-all \
//         -o spec-tests/native/libc.wasm spec-tests/native/libc.c

typedef unsigned char byte;
typedef unsigned long size_t;

void *memcpy(void *to, const void *from, size_t n) {
    for (size_t i = 0; i < n; i++) ((volatile byte *)to)[i] = ((const byte *)from)[i];
    return to;
}

void *memmove(void *to, const void *from, size_t n) {
    if (to < from) return memcpy(to, from, n);
    while (n--) ((volatile byte *)to)[n] = ((const byte *)from)[n];
    return to;
}

void *memset(void *to, int value, size_t n) {
    for (size_t i = 0; i < n; i++) ((volatile byte *)to)[i] = (byte)value;
    return to;
}

int memcmp(const void *a, const void *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        int difference = ((const byte *)a)[i] - ((const byte *)b)[i];
        if (difference) return difference;
    }
    return 0;
}

void *memchr(const void *start, int value, size_t n) {
    for (const byte *at = start; n--; at++)
        if (*at == (byte)value) return (void *)at;
    return 0;
}

size_t strlen(const char *s) {
    size_t n = 0;
    while (s[n]) n++;
    return n;
}

size_t strnlen(const char *s, size_t most) {
    size_t n = 0;
    while (n < most && s[n]) n++;
    return n;
}

int strncmp(const char *a, const char *b, size_t n) {
    for (; n--; a++, b++) {
        int difference = *(const byte *)a - *(const byte *)b;
        if (difference || !*a) return difference;
    }
    return 0;
}

int strcmp(const char *a, const char *b) {
    for (;; a++, b++) {
        int difference = *(const byte *)a - *(const byte *)b;
        if (difference || !*a) return difference;
    }
}

char *strchr(const char *s, int value) {
    for (;; s++) {
        if (*s == (char)value) return (char *)s;
        if (!*s) return 0;
    }
}

char *strrchr(const char *s, int value) {
    const char *found = 0;
    for (;; s++) {
        if (*s == (char)value) found = s;
        if (!*s) return (char *)found;
    }
}

char *strcpy(char *to, const char *from) {
    char *at = to;
    while ((*(volatile char *)at++ = *from++)) {}
    return to;
}
