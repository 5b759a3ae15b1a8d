// SPDX-License-Identifier: Apache-2.0
// Makes elements. Whatever is shown comes in as text: there is no way in here for markup, whatever a pod is called.

type Child = Node | string | undefined | false

export interface Properties {
  readonly class?: string
  /** Attributes; those that are undefined or false are left out. */
  readonly attributes?: Readonly<Record<string, string | number | boolean | undefined>>
  readonly on?: Readonly<Record<string, (event: Event) => void>>
  /** By which the element is found again after the page was drawn anew. */
  readonly key?: string
}

const SVG = 'http://www.w3.org/2000/svg'

/** An element of HTML. */
export function el(tag: string, properties: Properties = {}, ...children: Child[]): HTMLElement {
  const element = document.createElement(tag)
  dress(element, properties, children)
  return element
}

/** An element of SVG. */
export function svg(tag: string, properties: Properties = {}, ...children: Child[]): SVGElement {
  const element = document.createElementNS(SVG, tag)
  dress(element, properties, children)
  return element
}

function dress(
  element: HTMLElement | SVGElement,
  properties: Properties,
  children: readonly Child[],
): void {
  if (properties.class !== undefined) element.setAttribute('class', properties.class)
  if (properties.key !== undefined) element.dataset['key'] = properties.key
  for (const [name, value] of Object.entries(properties.attributes ?? {}))
    if (value !== undefined && value !== false)
      element.setAttribute(name, value === true ? '' : String(value))
  for (const [event, listener] of Object.entries(properties.on ?? {}))
    element.addEventListener(event, listener)
  element.append(...children.filter((child) => child !== undefined && child !== false))
}

/** Puts new content in the place of the old; who had the focus keeps it, by its key. */
export function redraw(container: Element, ...content: Node[]): void {
  const focused = document.activeElement
  const key =
    container.contains(focused) && (focused instanceof HTMLElement || focused instanceof SVGElement)
      ? focused.dataset['key']
      : undefined
  container.replaceChildren(...content)
  if (key !== undefined) byKey(container, key)?.focus({ preventScroll: true })
}

/** The element with the key. */
export function byKey(container: Element, key: string): HTMLElement | SVGElement | undefined {
  return [...container.querySelectorAll<HTMLElement | SVGElement>('[data-key]')].find(
    (element) => element.dataset['key'] === key,
  )
}
