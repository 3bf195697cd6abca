"use strict";

// The page of one door lies beside the door's graph: /agent/graphiql asks /agent/graphql.
const door = location.pathname.split("/").at(-2);
const graphUrl = new URL("graphql", location.href);
const socketUrl = new URL(graphUrl);
socketUrl.protocol = location.protocol === "https:" ? "wss:" : "ws:";

// Kept for this tab only; each door has its own accounts, so each its own session.
const sessionKey = `graphiql:${door}:session`;
let session = JSON.parse(sessionStorage.getItem(sessionKey));

const logInMutation = `mutation($account: String!, $password: String!) {
  logIn(input: {account: $account, password: $password}) {
    session { accessToken refreshToken expiresAt }
    errors { code field message }
  }
}`;

const authorization = () => (session ? { authorization: `Bearer ${session.accessToken}` } : {});

const fetcher = GraphiQL.createFetcher({
  url: graphUrl.href,
  enableIncrementalDelivery: false,
  // The token comes first, so that a header typed into GraphiQL has the last word.
  fetch: (url, options) => fetch(url, { ...options, headers: { ...authorization(), ...options.headers } }),
  wsClient: graphqlWs.createClient({ url: socketUrl.href, connectionParams: authorization }),
});

const element = (id) => document.getElementById(id);
const graphiql = ReactDOM.createRoot(element("graphiql"));
let visits = 0;

// A new key makes GraphiQL read the schema again: who is logged in decides what there is to see.
function render() {
  element("login").hidden = session !== null;
  element("session").hidden = session === null;
  element("subject").textContent = session ? `${session.account}, until ${session.expiresAt}` : "";
  graphiql.render(
    React.createElement(GraphiQL, {
      key: (visits += 1),
      fetcher,
      storage: GraphiQL.createLocalStorage({ namespace: door }),
      onSchemaChange: offerLogIn,
      shouldPersistHeaders: false,
      showPersistHeadersSettings: false,
    }),
  );
}

// A door without password login has no logIn mutation. A schema that nobody may read says nothing either way.
function offerLogIn(schema) {
  const mutations = schema.getMutationType()?.getFields() ?? {};
  element("login").hidden = session !== null || !("logIn" in mutations);
}

function remember(newSession) {
  session = newSession;
  if (session) sessionStorage.setItem(sessionKey, JSON.stringify(session));
  else sessionStorage.removeItem(sessionKey);
  render();
}

async function logIn(account, password) {
  const response = await fetch(graphUrl, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ query: logInMutation, variables: { account, password } }),
  });
  const { data, errors } = await response.json();
  const problems = errors ?? data.logIn.errors ?? [];
  if (problems.length > 0) throw new Error(problems.map((problem) => problem.message).join("; "));
  const { accessToken, expiresAt } = data.logIn.session;
  return { account, accessToken, expiresAt };
}

element("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  element("problem").textContent = "";
  try {
    remember(await logIn(form.account.value, form.password.value));
    form.reset();
  } catch (problem) {
    element("problem").textContent = problem.message;
  }
});

element("session").addEventListener("submit", (event) => {
  event.preventDefault();
  remember(null);
});

document.title = `GraphiQL: ${door}`;
element("door").textContent = door;
render();
