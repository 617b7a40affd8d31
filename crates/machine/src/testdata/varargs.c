/*
 * Arguments of every width through `...`, a va_list and a struct va_format. Position-independent and without calls
 * to anything outside, so that its text can run at any address:
 *
 *   gcc -c -O1 -ffreestanding -fno-stack-protector -fno-jump-tables -fcf-protection=none -fno-pic \
 *       -mgeneral-regs-only -mno-red-zone varargs.c && objcopy -O binary -j .text varargs.o varargs.x86_64.bin
 *   arm-linux-gnueabihf-gcc -c -O1 -ffreestanding -fno-stack-protector -fno-pic -marm -march=armv7-a \
 *       -mfloat-abi=soft -mgeneral-regs-only varargs.c && arm-linux-gnueabihf-objcopy -O binary -j .text varargs.o varargs.arm.bin
 */
#include <stdarg.h>

struct va_format {
	const char *fmt;
	va_list *va;
};

struct calls {
	int (*vsnprintf)(char *, unsigned long, const char *, va_list);
	int (*snprintf)(char *, unsigned long, const char *, ...);
	char *buffer;
	const char *format;
	const char *nested;
	const char *text;
};

static int list(const struct calls *calls, const char *format, ...);
static int nested(const struct calls *calls, const char *format, ...);

__attribute__((section(".text"))) int run(const struct calls *calls, int which)
{
	const char *t = calls->text;

	if (which == 0)
		return calls->snprintf(calls->buffer, 200, calls->format, -1, 0x1122334455667788ll, t, 2u,
				       0x99aabbccddeeff00ull, 'c', 3l, 0x0102030405060708ll, -4);
	if (which == 1)
		return list(calls, calls->format, -1, 0x1122334455667788ll, t, 2u, 0x99aabbccddeeff00ull, 'c', 3l,
			    0x0102030405060708ll, -4);
	return nested(calls, calls->format, -1, 0x1122334455667788ll, t, 2u, 0x99aabbccddeeff00ull, 'c', 3l,
		      0x0102030405060708ll, -4);
}

static __attribute__((noinline)) int list(const struct calls *calls, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = calls->vsnprintf(calls->buffer, 200, format, args);
	va_end(args);
	return n;
}

static __attribute__((noinline)) int nested(const struct calls *calls, const char *format, ...)
{
	struct va_format vaf;
	va_list args;
	int n;

	va_start(args, format);
	vaf.fmt = format;
	vaf.va = &args;
	/* Twice, since printing it must not use it up. */
	n = calls->snprintf(calls->buffer, 200, calls->nested, 7, &vaf, &vaf, 8);
	va_end(args);
	return n;
}
