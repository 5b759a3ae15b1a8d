// SPDX-License-Identifier: Apache-2.0
// Light, dark, or as the system has it.

const THEMES = ['system', 'light', 'dark'] as const
type Theme = (typeof THEMES)[number]

const KEY = 'ambit-theme'

/** The button goes from one to the next; the choice is kept. */
export function watchTheme(button: HTMLElement): void {
  const held = localStorage.getItem(KEY)
  let theme: Theme = THEMES.find((each) => each === held) ?? 'system'
  const apply = (): void => {
    document.documentElement.dataset['theme'] = theme
    button.textContent = { system: '◐ System', light: '☀ Light', dark: '☾ Dark' }[theme]
    button.setAttribute('aria-label', `Theme: ${theme}`)
  }
  button.addEventListener('click', () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? 'system'
    localStorage.setItem(KEY, theme)
    apply()
  })
  apply()
}
