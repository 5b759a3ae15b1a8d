// SPDX-License-Identifier: Apache-2.0
// What is in the image, as SPDX 2.3 in JSON: every package of Debian and npm with version and package URL. Pure.

import { VERSION } from '../../mesh/program/version.ts'
import type { NpmPackage } from './application.ts'
import type { Architecture, DebianPackage } from './debian.ts'

export interface Contents {
  readonly architecture: Architecture
  readonly debian: readonly DebianPackage[]
  readonly npm: readonly NpmPackage[]
  readonly epochSeconds: number
}

const PRODUCT = 'SPDXRef-ambit'

/** The document's text; the same for the same contents. */
export function spdxDocument({ architecture, debian, npm, epochSeconds }: Contents): string {
  const packages = [
    ...debian.map(({ name, version, sha256 }) => ({
      ...entry(`deb-${name}`, name, version, 'NOASSERTION'),
      checksums: [{ algorithm: 'SHA256', checksumValue: sha256 }],
      ...purl(`pkg:deb/debian/${name}@${version}?arch=${architecture}`),
    })),
    ...npm.map(({ name, version, license }) => ({
      ...entry(`npm-${name}-${version}`, name, version, license),
      ...purl(`pkg:npm/${name.replace('@', '%40')}@${version}`),
    })),
  ]
  const document = {
    spdxVersion: 'SPDX-2.3',
    dataLicense: 'CC0-1.0',
    SPDXID: 'SPDXRef-DOCUMENT',
    name: `ambit-${VERSION}-linux-${architecture}`,
    documentNamespace: `https://ambit.dev/spdx/ambit-${VERSION}-linux-${architecture}`,
    creationInfo: {
      created: new Date(epochSeconds * 1000).toISOString().replace('.000', ''),
      creators: [`Tool: ambit-image-${VERSION}`],
    },
    packages: [{ ...entry('ambit', 'ambit', VERSION, 'Apache-2.0'), SPDXID: PRODUCT }, ...packages],
    relationships: [
      relationship('SPDXRef-DOCUMENT', 'DESCRIBES', PRODUCT),
      ...packages.map(({ SPDXID }) => relationship(PRODUCT, 'CONTAINS', SPDXID)),
    ],
  }
  return `${JSON.stringify(document, undefined, 1)}\n`
}

function entry(
  id: string,
  name: string,
  versionInfo: string,
  licenseDeclared: string,
): { readonly SPDXID: string } & Readonly<Record<string, unknown>> {
  return {
    SPDXID: `SPDXRef-${id.replaceAll(/[^A-Za-z0-9.-]+/g, '-')}`,
    name,
    versionInfo,
    downloadLocation: 'NOASSERTION',
    filesAnalyzed: false,
    licenseConcluded: 'NOASSERTION',
    licenseDeclared,
    copyrightText: 'NOASSERTION',
  }
}

const purl = (referenceLocator: string): object => ({
  externalRefs: [{ referenceCategory: 'PACKAGE-MANAGER', referenceType: 'purl', referenceLocator }],
})

const relationship = (
  spdxElementId: string,
  relationshipType: string,
  related: string,
): object => ({
  spdxElementId,
  relationshipType,
  relatedSpdxElement: related,
})
