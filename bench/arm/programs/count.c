// A plugin for QEMU that counts the instructions of an Arm program by kind. It prints one line of JSON to stderr at the end.
//
//     cc -shared -fPIC -O2 count.c -o count.so
//     qemu-aarch64 -plugin ./count.so program
//
// The declarations are those of QEMU's plugin interface, version 1.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct qemu_info_t qemu_info_t;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
typedef void (*translated_t)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*ended_t)(qemu_plugin_id_t, void *);

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated_t);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, ended_t, void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum qemu_plugin_op, void *, uint64_t);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum kind { MEMORY, DOT, MATRIX, LOOKUP, OTHER_VECTOR, OTHER, KINDS };
static const char *const NAMES[KINDS] = {"memory", "dot", "matrix", "table", "vector", "other"};
static uint64_t counts[KINDS];

// By the encoding of A64: Arm Architecture Reference Manual, C4.1.
static enum kind kind_of(uint32_t word) {
  uint32_t group = (word >> 25) & 15;
  if ((group & 5) == 4) return MEMORY;
  if ((group & 7) != 7) return OTHER;
  if ((word & 0x9f20fc00) == 0x0e009400 || (word & 0x9f00f400) == 0x0f00e000) return DOT;  // SDOT, UDOT; by element
  if ((word & 0xdfe0fc00) == 0x4e80a400 || (word & 0xffe0fc00) == 0x4e80ac00) return MATRIX;  // SMMLA, UMMLA, USMMLA
  if ((word & 0xbfe08c00) == 0x0e000000) return LOOKUP;  // TBL, TBX
  return OTHER_VECTOR;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  uint64_t here[KINDS] = {0};
  for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); i++) {
    uint32_t word;
    memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, i)), sizeof word);
    here[kind_of(word)]++;
  }
  for (int kind = 0; kind < KINDS; kind++)
    if (here[kind]) qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &counts[kind], here[kind]);
}

static void ended(qemu_plugin_id_t id, void *nothing) {
  fprintf(stderr, "{");
  for (int kind = 0; kind < KINDS; kind++) fprintf(stderr, "%s\"%s\": %llu", kind ? ", " : "", NAMES[kind], (unsigned long long)counts[kind]);
  fprintf(stderr, "}\n");
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int count, char **arguments) {
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, ended, NULL);
  return 0;
}
