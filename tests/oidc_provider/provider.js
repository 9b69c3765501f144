// A certified OpenID Connect provider for the tests: node provider.js PORT REDIRECT_URI. One client for each algorithm.
import { randomUUID, generateKeyPairSync } from 'node:crypto'
import { Provider } from 'oidc-provider'

const [port, redirectUri] = process.argv.slice(2)
const key = (pair) => ({ ...pair.privateKey.export({ format: 'jwk' }), use: 'sig', kid: randomUUID() })
const keys = [
  key(generateKeyPairSync('rsa', { modulusLength: 2048 })),
  key(generateKeyPairSync('ec', { namedCurve: 'P-256' })),
  key(generateKeyPairSync('ed25519')),
]
const algorithms = ['RS256', 'ES256', 'EdDSA']

const provider = new Provider(`http://127.0.0.1:${port}`, {
  // and one for a build server, whose ID tokens have the portal's own address as their audience
  clients: [...algorithms, 'RS256'].map((algorithm, number) => ({
    client_id: number < algorithms.length ? `portal-${algorithm}` : new URL(redirectUri).origin, client_secret: 'a secret: with / signs & spaces', redirect_uris: [redirectUri],
    id_token_signed_response_alg: algorithm,
  })),
  jwks: { keys },
  enabledJWA: { idTokenSigningAlgValues: algorithms },
  pkce: { required: () => true },
  claims: { openid: ['sub', 'repository_id'], email: ['email', 'email_verified'], profile: ['name'] },
  cookies: { keys: [randomUUID()] },
  // the name that is typed into the provider's form: its address is verified unless it begins with "unverified"
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, repository_id: '74', email: `${id}@example.net`, email_verified: !id.startsWith('unverified'), name: `${id} at the provider` }),
  }),
})
provider.listen(Number(port), '127.0.0.1')
