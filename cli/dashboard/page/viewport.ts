// SPDX-License-Identifier: Apache-2.0
// What part of the drawing is on the screen: dragged, zoomed by the wheel or two fingers, fitted.

import type { Rectangle } from './edges.ts'

const SMALLEST = 0.05
const LARGEST = 2.5
/** A few nodes are not blown up. */
const LARGEST_FIT = 1.15
const MARGIN = 28
/** For the legend. */
const MARGIN_BELOW = 62
/** A press that moves less is a click. Pixels. */
const CLICK_SLACK = 4

export class Viewport {
  scale = 1
  /** Whether the person has chosen the view. */
  isMoved = false
  #x = 0
  #y = 0
  readonly #canvas: SVGSVGElement
  readonly #world: SVGElement
  readonly #onScale: () => void
  readonly #pointers = new Map<number, { x: number; y: number }>()
  readonly #observer: ResizeObserver
  #last: { readonly width: number; readonly height: number } | undefined
  #dragged = 0

  /** `onScale` is called when what is to be drawn may depend on the new scale. */
  constructor(canvas: SVGSVGElement, world: SVGElement, onScale: () => void) {
    this.#canvas = canvas
    this.#world = world
    this.#onScale = onScale
    canvas.addEventListener('wheel', (event) => this.#onWheel(event), { passive: false })
    canvas.addEventListener('pointerdown', (event) => this.#onDown(event))
    canvas.addEventListener('pointermove', (event) => this.#onMove(event))
    for (const end of ['pointerup', 'pointercancel'] as const)
      canvas.addEventListener(end, ({ pointerId }) => this.#pointers.delete(pointerId))
    // A drag that ends on a node does not select it.
    canvas.addEventListener(
      'click',
      (event) => {
        if (this.#dragged > CLICK_SLACK) event.stopPropagation()
      },
      { capture: true },
    )
    this.#observer = new ResizeObserver(() => {
      if (this.#last !== undefined && !this.isMoved) this.fit(this.#last)
    })
    this.#observer.observe(canvas)
  }

  /** How many times as wide as high the screen is, in steps, so that a slightly other window is not another picture. */
  get aspect(): number {
    const { width, height } = this.#canvas.getBoundingClientRect()
    if (width === 0 || height === 0) return 1.5
    return Math.min(2.5, Math.max(0.5, Math.round((width / height) * 2) / 2))
  }

  close(): void {
    this.#observer.disconnect()
  }

  /** Shows all of it. */
  fit(content: { readonly width: number; readonly height: number }): void {
    this.#last = { width: content.width, height: content.height }
    this.isMoved = false
    const { width, height } = this.#canvas.getBoundingClientRect()
    if (width === 0 || content.width === 0) return
    const scale = Math.min(
      (width - 2 * MARGIN) / content.width,
      (height - MARGIN - MARGIN_BELOW) / content.height,
      LARGEST_FIT,
    )
    this.#set(
      Math.max(SMALLEST, scale),
      (width - content.width * scale) / 2,
      (height - MARGIN_BELOW + MARGIN - content.height * scale) / 2,
    )
  }

  /** Around the middle. */
  zoom(factor: number): void {
    const { width, height } = this.#canvas.getBoundingClientRect()
    this.#zoomAt(factor, width / 2, height / 2)
  }

  /** Brings it to the middle, at this scale at least. */
  show(at: Rectangle, smallest: number): void {
    const { width, height } = this.#canvas.getBoundingClientRect()
    const scale = Math.max(this.scale, smallest)
    this.isMoved = true
    this.#set(
      scale,
      width / 2 - (at.x + at.width / 2) * scale,
      height / 2 - (at.y + at.height / 2) * scale,
    )
  }

  /** Brings it to the middle if it is not on the screen. */
  reveal(at: Rectangle): void {
    const { width, height } = this.#canvas.getBoundingClientRect()
    const left = at.x * this.scale + this.#x
    const top = at.y * this.scale + this.#y
    const isSeen =
      left >= 0 &&
      top >= 0 &&
      left + at.width * this.scale <= width &&
      top + at.height * this.scale <= height
    if (!isSeen) this.show(at, this.scale)
  }

  #zoomAt(factor: number, x: number, y: number): void {
    const scale = Math.min(LARGEST, Math.max(SMALLEST, this.scale * factor))
    const ratio = scale / this.scale
    this.isMoved = true
    this.#set(scale, x - (x - this.#x) * ratio, y - (y - this.#y) * ratio)
  }

  #set(scale: number, x: number, y: number): void {
    const isNewScale = scale !== this.scale
    this.scale = scale
    this.#x = x
    this.#y = y
    this.#world.setAttribute('transform', `translate(${x} ${y}) scale(${scale})`)
    if (isNewScale) this.#onScale()
  }

  #onWheel(event: WheelEvent): void {
    event.preventDefault()
    const { left, top } = this.#canvas.getBoundingClientRect()
    this.#zoomAt(Math.exp(-event.deltaY * 0.0015), event.clientX - left, event.clientY - top)
  }

  #onDown({ pointerId, clientX, clientY }: PointerEvent): void {
    if (this.#pointers.size === 0) this.#dragged = 0
    this.#pointers.set(pointerId, { x: clientX, y: clientY })
  }

  #onMove({ pointerId, clientX, clientY, buttons }: PointerEvent): void {
    const before = this.#pointers.get(pointerId)
    if (before === undefined) return
    // The button was let go outside of the window.
    if (buttons === 0) return void this.#pointers.delete(pointerId)
    const other = [...this.#pointers].find(([id]) => id !== pointerId)?.[1]
    const now = { x: clientX, y: clientY }
    this.#pointers.set(pointerId, now)
    this.#dragged += Math.hypot(now.x - before.x, now.y - before.y)
    if (this.#dragged <= CLICK_SLACK) return
    this.isMoved = true
    if (other === undefined) {
      this.#set(this.scale, this.#x + now.x - before.x, this.#y + now.y - before.y)
      return
    }
    const { left, top } = this.#canvas.getBoundingClientRect()
    const factor =
      Math.hypot(now.x - other.x, now.y - other.y) /
      Math.max(1, Math.hypot(before.x - other.x, before.y - other.y))
    this.#zoomAt(factor, (now.x + other.x) / 2 - left, (now.y + other.y) / 2 - top)
  }
}
