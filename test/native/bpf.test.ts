// SPDX-License-Identifier: Apache-2.0
// The libbpf binding: objects, constants, maps, and what it says when the kernel or the library refuses.

import t from 'tap'
import { BpfMap } from '../../native/bpf-map.ts'
import { BpfObject } from '../../native/bpf-object.ts'
import { parseBtf } from '../../native/btf.ts'
import { helperFeature, missingFeatures, REQUIRED_FEATURES } from '../../native/kernel-features.ts'
import { loadLibbpf } from '../../native/libbpf.ts'
import { NetnsThread } from '../../native/netns.ts'
import { compileBpf } from '../compile-bpf.ts'
import { cgroup2Mount, missing } from '../helpers.ts'

const skip = missing('root', 'cgroup2')

const SOURCE = `
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
const volatile __u64 wide = 1;
const volatile __u32 narrow = 2;
enum colour { RED = 3, BLUE = 5 };
struct pair { __u32 first; __u64 second; };
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1000);
	__type(key, __u64);
	__type(value, struct pair);
} pairs SEC(".maps");
enum colour colour_in_btf;
SEC("cgroup/connect4") int constants(struct bpf_sock_addr *ctx)
{
	__u64 key = wide;
	struct pair value;
	__builtin_memset(&value, 0, sizeof(value)); /* the padding too: kernels before 6.3 look at it */
	value.first = narrow;
	value.second = wide;
	bpf_map_update_elem(&pairs, &key, &value, BPF_ANY);
	return 1;
}
char LICENSE[] SEC("license") = "GPL";
`

void t.test('an object shows its structs, enums and constants', { skip }, async (t) => {
  const object = BpfObject.open(compileBpf(t, SOURCE))
  t.teardown(() => object.close())
  t.strictSame(object.types.structs.get('pair'), {
    size: 16,
    members: new Map([
      ['first', 0],
      ['second', 8],
    ]),
  })
  t.strictSame(
    object.types.enums.get('colour'),
    new Map([
      ['RED', 3],
      ['BLUE', 5],
    ]),
  )
  t.strictSame(new Set(object.types.sections.get('.rodata')?.keys()), new Set(['wide', 'narrow']))
  t.throws(() => object.setConstants({ absent: 1n }), /no variable absent/)
  object.setConstants({ wide: 77n, narrow: 5n })
  object.load()
  t.match(object.programs(), [{ name: 'constants', attachType: 10 }])
  t.throws(() => object.map('none'), /no map none/)
})

void t.test(
  'maps: single elements, batches, iteration over more than one batch',
  { skip },
  async (t) => {
    const object = BpfObject.open(compileBpf(t, SOURCE))
    t.teardown(() => object.close())
    object.setMaxEntries('pairs', 600)
    object.load()
    const map = object.map('pairs')
    const key = (number: number): Buffer => {
      const bytes = Buffer.alloc(8)
      bytes.writeUInt32LE(number)
      return bytes
    }
    t.equal(map.lookup(key(1)), undefined)
    t.equal(map.delete(key(1)), false)
    map.update(key(1), Buffer.alloc(16, 9))
    t.strictSame(map.lookup(key(1)), Buffer.alloc(16, 9))
    t.equal(map.delete(key(1)), true)
    map.updateBatch(
      Array.from({ length: 600 }, (_, index) => [key(index), Buffer.alloc(16, index)]),
    )
    t.equal(map.keys().length, 600)
    const entries = map.entries()
    t.equal(entries.length, 600)
    t.ok(entries.every(([k, v]) => v.equals(Buffer.alloc(16, k.readUInt32LE() & 0xff))))
    t.throws(() => map.update(key(601), Buffer.alloc(16)), {
      name: 'NativeError',
      call: 'bpf_map_update_elem',
      errnoName: 'E2BIG',
      detail: /pairs/,
    })
    t.equal(map.deleteBatch(map.keys()), 600)
    t.strictSame(map.entries(), [])
    t.throws(() => new BpfMap('gone', 9999, 8, 16).lookup(key(1)), {
      name: 'NativeError',
      errnoName: 'EBADF',
    })
  },
)

void t.test('a refusal by the verifier quotes its last lines', { skip }, async (t) => {
  const source = SOURCE.replace('return 1;', 'return 7;')
  const object = BpfObject.open(compileBpf(t, source))
  t.teardown(() => object.close())
  t.throws(() => object.load(), {
    name: 'NativeError',
    call: 'bpf_object__load',
    message: /R0 has .*(0x7|7).* should have been in/,
  })
})

void t.test('what is no BPF object is refused by path', { skip }, async (t) => {
  t.throws(() => BpfObject.open('/etc/hostname'), {
    name: 'NativeError',
    call: 'bpf_object__open',
    detail: /hostname/,
  })
  t.throws(() => BpfObject.open('/no/such/file'), { name: 'NativeError', errnoName: 'ENOENT' })
  t.throws(() => parseBtf(new Uint8Array(64)), RangeError)
})

void t.test('a library that is not installed is named', { skip }, async (t) => {
  t.throws(() => loadLibbpf('libbpf.so.999'), { call: 'dlopen', message: /libbpf\.so\.999/ })
})

void t.test('the kernel is probed for features by loading and attaching', { skip }, async (t) => {
  const thread = new NetnsThread()
  t.teardown(() => thread.close())
  const mount = cgroup2Mount() ?? ''
  t.strictSame(await missingFeatures(mount, thread, REQUIRED_FEATURES), [])
  const impossible = helperFeature('tomorrow', '99.0', 60_000)
  t.match(await missingFeatures(mount, thread, [...REQUIRED_FEATURES, impossible]), [
    { name: 'tomorrow', since: '99.0', reason: /bpf\(BPF_PROG_LOAD\): EINVAL/ },
  ])
})
