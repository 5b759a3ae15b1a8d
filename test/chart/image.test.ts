// SPDX-License-Identifier: Apache-2.0
// The image: an archive of made-up layers is a valid OCI layout and the same twice; the Dockerfile runs it alike; and what npm run image
// has built runs in a root of its own.

import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { RUN_CONFIG, writeArchive } from '../../daemonset/image/archive.ts'
import { spdxDocument } from '../../daemonset/image/sbom.ts'
import { VERSION } from '../../mesh/program/version.ts'
import { missing } from '../helpers.ts'

interface Descriptor {
  readonly digest: string
  readonly size: number
}
interface Manifest {
  readonly config: Descriptor
  readonly layers: readonly Descriptor[]
}
interface Config {
  readonly architecture: string
  readonly config: object
  readonly rootfs: { readonly diff_ids: readonly string[] }
}

const EPOCH = 1_700_000_000
const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const BUILT = join(
  ROOT,
  `dist/ambit-${VERSION}-linux-${process.arch === 'arm64' ? 'arm64' : 'amd64'}.tar`,
)

const blobOf = (layout: string, digest: string): string =>
  join(layout, 'blobs', digest.replace(':', '/'))
const sha256 = (content: Buffer): string => createHash('sha256').update(content).digest('hex')

function scratch(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-image-test-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

void t.test(
  'an archive holds what its index, manifest and configuration say, and is the same twice',
  (t) => {
    const files = ['one', 'two'].map((name) => {
      const directory = join(scratch(t), name)
      const layers = ['a', 'b'].map((layer) => join(directory, layer))
      for (const [at, layer] of layers.entries()) {
        mkdirSync(join(layer, 'etc'), { recursive: true })
        writeFileSync(join(layer, `etc/${at}`), `content ${at}`)
        // A clock of its own, which must not be seen.
        utimesSync(join(layer, `etc/${at}`), Date.now() / 1000, name === 'one' ? 1 : 2)
      }
      const file = join(directory, 'image.tar')
      const digest = writeArchive({
        layers: layers.map((each) => ({ what: each.slice(-1), directory: each })),
        architecture: 'arm64',
        epochSeconds: EPOCH,
        directory: join(directory, 'oci'),
        file,
      })
      return { file, digest }
    })
    const [one, two] = files
    if (one === undefined || two === undefined) throw new Error('no archives')
    t.equal(one.digest, two.digest)
    t.ok(readFileSync(one.file).equals(readFileSync(two.file)), 'byte by byte')

    const layout = unpacked(t, one.file)
    t.strictSame(JSON.parse(readFileSync(join(layout, 'oci-layout'), 'utf8')), {
      imageLayoutVersion: '1.0.0',
    })
    const { manifest, config } = read(t, layout)
    t.match(config, { architecture: 'arm64', config: RUN_CONFIG })
    for (const [at, { digest }] of manifest.layers.entries()) {
      const tar = execFileSync('gzip', ['-dc', blobOf(layout, digest)])
      t.equal(
        `sha256:${sha256(tar)}`,
        config.rootfs.diff_ids[at],
        'the layer is what the configuration calls it',
      )
      t.equal(
        execFileSync('tar', ['-xO', `etc/${at}`], { input: tar, encoding: 'utf8' }),
        `content ${at}`,
      )
    }
    t.end()
  },
)

void t.test('the Dockerfile runs the image as the archive says', (t) => {
  const file = readFileSync(join(ROOT, 'daemonset/Dockerfile'), 'utf8')
  const [, last = ''] = file.split('FROM scratch')
  t.ok(last.includes(`ENV ${RUN_CONFIG.Env.join(' ')}\n`))
  t.ok(last.includes(`WORKDIR ${RUN_CONFIG.WorkingDir}\n`))
  t.ok(last.includes(`USER ${RUN_CONFIG.User}\n`))
  t.ok(last.includes(`ENTRYPOINT ${JSON.stringify(RUN_CONFIG.Entrypoint)}\n`))
  t.ok(last.includes(`CMD ${JSON.stringify(RUN_CONFIG.Cmd)}\n`))
  t.end()
})

void t.test('the SBOM names every package once, with its version', (t) => {
  const document = JSON.parse(
    spdxDocument({
      architecture: 'amd64',
      debian: [{ name: 'libc6', version: '2.36-9', sha256: '0'.repeat(64) }],
      npm: [{ name: '@grpc/grpc-js', version: '1.0.0', license: 'Apache-2.0' }],
      epochSeconds: EPOCH,
    }),
  ) as { packages: { SPDXID: string; externalRefs?: { referenceLocator: string }[] }[] }
  t.match(document, { spdxVersion: 'SPDX-2.3', dataLicense: 'CC0-1.0', SPDXID: 'SPDXRef-DOCUMENT' })
  const ids = document.packages.map(({ SPDXID }) => SPDXID)
  t.equal(new Set(ids).size, 3)
  for (const id of ids) t.match(id, /^SPDXRef-[A-Za-z0-9.-]+$/)
  t.strictSame(
    document.packages.flatMap(({ externalRefs = [] }) =>
      externalRefs.map((each) => each.referenceLocator),
    ),
    ['pkg:deb/debian/libc6@2.36-9?arch=amd64', 'pkg:npm/%40grpc/grpc-js@1.0.0'],
  )
  t.end()
})

const skip = missing('root') || (!existsSync(BUILT) && `no ${BUILT}: npm run image builds it`)

void t.test(
  'what npm run image has built runs in a root of its own, read-only, as nobody',
  { skip },
  (t) => {
    const layout = unpacked(t, BUILT)
    const root = join(scratch(t), 'root')
    mkdirSync(root)
    const { manifest } = read(t, layout)
    for (const { digest } of manifest.layers)
      execFileSync('tar', ['-xzf', blobOf(layout, digest), '-C', root, '--keep-directory-symlink'])
    const run = (user: string, ...command: readonly string[]): string => {
      const script =
        'mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; mount -t proc proc "$0/proc"; mount --rbind /sys "$0/sys"; user=$1; shift; exec chroot --userspec="$user" "$0" "$@"'
      const argv = [
        '--mount',
        '--propagation',
        'private',
        'sh',
        '-ec',
        script,
        root,
        user,
        ...command,
      ]
      const { status, stdout, stderr } = spawnSync('unshare', argv, {
        encoding: 'utf8',
        env: { PATH: '/usr/bin:/bin:/usr/sbin:/sbin' },
      })
      t.equal(status, 0, `${command.join(' ')}: ${stderr}`)
      return stdout
    }
    const ambit = RUN_CONFIG.Entrypoint[0]
    t.equal(run(RUN_CONFIG.User, ambit, '--version'), `${VERSION}\n`)
    for (const program of ['agent', 'controller', 'waypoint-proxy'])
      t.match(run(RUN_CONFIG.User, ambit, program, '--help'), `Usage: ambit ${program}`)
    const load =
      'const l = await import("/opt/ambit/native/libbpf.ts"); l.loadLibbpf(); const c = await import("/opt/ambit/native/libc.ts"); const s = await import("/opt/ambit/native/socket-addon.ts"); console.log("cgroup2", c.isCgroup2("/"), s.loadSocketAddon() !== undefined)'
    t.equal(
      run('0:0', 'node', '--input-type=module', '-e', load),
      'cgroup2 false true\n',
      'libbpf, libc and the sockets are loaded',
    )
    t.match(
      run('0:0', 'sh', '-c', '/opt/ambit/native/build/ambit-cni </dev/null; echo $?'),
      /\d/,
      'the plugin starts',
    )
    t.ok(readdirSync(join(root, 'usr/share/sbom')).includes('ambit.spdx.json'))
    t.equal(statSync(join(root, 'tmp')).mode & 0o7777, 0o1777)
    t.end()
  },
)

function unpacked(t: Test, file: string): string {
  const directory = scratch(t)
  execFileSync('tar', ['-xf', file, '-C', directory])
  return directory
}

/** Follows the index to the manifest and its parts; each is what its descriptor says. */
function read(t: Test, layout: string): { readonly manifest: Manifest; readonly config: Config } {
  const { manifests } = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as {
    manifests: Descriptor[]
  }
  t.equal(manifests.length, 1)
  const manifest = JSON.parse(checked(t, layout, manifests[0])) as Manifest
  const config = JSON.parse(checked(t, layout, manifest.config)) as Config
  for (const layer of manifest.layers) checked(t, layout, layer)
  t.equal(
    readdirSync(join(layout, 'blobs/sha256')).length,
    2 + manifest.layers.length,
    'nothing else',
  )
  return { manifest, config }
}

function checked(t: Test, layout: string, descriptor: Descriptor | undefined): string {
  const content = readFileSync(blobOf(layout, descriptor?.digest ?? ''))
  t.match(descriptor, { digest: `sha256:${sha256(content)}`, size: content.length })
  return content.toString('utf8')
}
