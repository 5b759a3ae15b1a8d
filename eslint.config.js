// SPDX-License-Identifier: Apache-2.0
// Lint rules. Each rule that bans something says why, so that nobody has to guess before disabling it.
import tseslint from 'typescript-eslint'

export default tseslint.config(
  {
    ignores: [
      'node_modules',
      'mesh/proto/gen',
      'eslint.config.js',
      '.tap',
      '.dependency-cruiser.cjs',
    ],
  },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.base],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      // A promise nobody awaits hides its failure and outlives its owner.
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: false }],
      '@typescript-eslint/await-thenable': 'error',
      // any turns the compiler off where it is needed most: at borders.
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-unsafe-argument': 'error',
      // A switch over a union must stop compiling when the union grows.
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/no-unnecessary-type-assertion': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/only-throw-error': 'error',
      '@typescript-eslint/prefer-promise-reject-errors': 'error',
      // An empty catch swallows the one error that would have explained the outage.
      'no-empty': ['error', { allowEmptyCatch: false }],
      eqeqeq: 'error',
      'no-console': 'error', // output goes through the logger, or through cli/output.ts
      'no-constant-binary-expression': 'error',
      'prefer-const': 'error',
    },
  },
  {
    files: ['agent/**', 'cli/**', 'controller/**', 'lab/**', 'mesh/**', 'waypoint/**'],
    rules: {
      // Such an import loads Node's client of fetch() and WebSocket as well.
      '@typescript-eslint/no-restricted-imports': [
        'error',
        {
          paths: [
            { name: 'node:http', allowTypeImports: true, message: 'Take mesh/node-http.ts.' },
          ],
        },
      ],
    },
  },
  {
    files: ['cli/**', 'lab/**', 'bench/**', 'scripts/**', 'test/**'],
    rules: { 'no-console': 'off' },
  }, // these talk to a person
)
