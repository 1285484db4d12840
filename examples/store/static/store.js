// The shop window: plain DOM over the JSON API that /docs describes.
const $ = (id) => document.getElementById(id);
const money = (cents) => new Intl.NumberFormat("en", { style: "currency", currency: "EUR" }).format(cents / 100);

const store = {
  load: (key, other) => { try { return JSON.parse(localStorage.getItem(key)) ?? other; } catch { return other; } },
  save: (key, value) => localStorage.setItem(key, JSON.stringify(value)),
};
let basket = store.load("basket", {}); // id -> {name, price, quantity}
let token = store.load("token", null);
let registering = false;

class ApiError extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function api(path, { method = "GET", json, form } = {}) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (json) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers, body: json ? JSON.stringify(json) : form });
  const data = response.status === 204 ? null : await response.json();
  if (!response.ok) {
    const detail = data?.detail;
    throw new ApiError(response.status, Array.isArray(detail) ? detail.map((e) => `${e.loc.at(-1)}: ${e.msg}`).join("; ") : detail);
  }
  return data;
}

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function toast(text) {
  $("toast").textContent = text;
  $("toast").classList.add("on");
  setTimeout(() => $("toast").classList.remove("on"), 2500);
}

function card(product) {
  const picture = element("div", { className: "picture" });
  picture.style.setProperty("--hue", (product.id * 67) % 360);
  picture.append(product.image ? element("img", { src: product.image, alt: "" }) : product.name[0]);
  const left = product.stock === 0 ? "sold out" : product.stock < 10 ? `only ${product.stock} left` : "in stock";
  const add = element("button", { type: "button", textContent: "Add", disabled: product.stock === 0 });
  add.setAttribute("aria-label", `Add ${product.name}`);
  add.onclick = () => { change(product, 1); toast(`${product.name} is in your basket`); };
  return element("li", {},
    picture,
    element("div", { className: "text" }, element("h3", { textContent: product.name }), element("p", { textContent: product.description })),
    element("div", { className: "buy" }, element("strong", {}, money(product.price), element("small", { textContent: left })), add));
}

async function search() {
  const query = new URLSearchParams(new FormData($("search")));
  query.set("limit", "100");
  try {
    const page = await api(`/products?${query}`);
    $("products").replaceChildren(...page.items.map(card));
    $("summary").textContent = page.total === 1 ? "1 product" : `${page.total} products`;
  } catch (error) {
    $("summary").textContent = `The shop does not answer: ${error.message}`;
  }
}

function change(product, by) {
  const line = basket[product.id] ?? { name: product.name, price: product.price, quantity: 0 };
  line.quantity += by;
  if (line.quantity > 0) basket[product.id] = line; else delete basket[product.id];
  store.save("basket", basket);
  $("order-error").textContent = ""; // what it said of the basket may be true no more
  showBasket();
}

function showBasket() {
  const lines = Object.entries(basket);
  $("count").textContent = lines.reduce((sum, [, line]) => sum + line.quantity, 0);
  $("total").textContent = money(lines.reduce((sum, [, line]) => sum + line.quantity * line.price, 0));
  $("place-order").disabled = lines.length === 0;
  $("lines").replaceChildren(...lines.map(([id, line]) => {
    const button = (text, by, label) => {
      const node = element("button", { type: "button", textContent: text, onclick: () => change({ id, ...line }, by) });
      node.setAttribute("aria-label", `${label} ${line.name}`);
      return node;
    };
    return element("li", {}, element("span", { textContent: line.name }), button("−", -1, "One less"), element("span", { textContent: line.quantity }), button("+", 1, "One more"), element("span", { textContent: money(line.price * line.quantity) }));
  }));
}

async function setToken(value) {
  token = value;
  store.save("token", value);
  $("account").textContent = value ? "Log out" : "Log in";
  let user = null;
  if (value) {
    try { user = await api("/users/me"); } catch (error) { if (error.status === 401) return setToken(null); }
  }
  $("shelf-link").hidden = user?.role !== "admin";
  show();
}

function setRegistering(value) {
  registering = value;
  $("name-field").hidden = !value;
  $("login-title").textContent = value ? "Make an account" : "Log in";
  $("login").querySelector(".primary").textContent = value ? "Sign up" : "Log in";
  $("switch").textContent = value ? "Have an account? Log in" : "New here? Make an account";
  $("login-error").textContent = "";
}

async function logIn(event) {
  event.preventDefault();
  const { name, email, password } = Object.fromEntries(new FormData($("login")));
  try {
    if (registering) await api("/users", { method: "POST", json: { name, email, password } });
    const answer = await api("/token", { method: "POST", form: new URLSearchParams({ username: email, password }) });
    $("login").reset();
    $("login-dialog").close();
    await setToken(answer.access_token);
    toast("Welcome");
    then?.();
  } catch (error) {
    $("login-error").textContent = error.message;
  }
}

// Ask for a login, and go on with what the customer was at.
let then;
function askLogin(goOn) {
  then = goOn;
  setRegistering(false);
  $("login-dialog").showModal();
}

function openBasket() {
  $("order-error").textContent = "";
  $("basket-dialog").showModal();
}

async function placeOrder() {
  if (!token) { $("basket-dialog").close(); askLogin(openBasket); return; }
  const lines = Object.entries(basket).map(([id, { quantity }]) => ({ product_id: Number(id), quantity }));
  try {
    const placed = await api("/orders", { method: "POST", json: { lines } });
    basket = {};
    store.save("basket", basket);
    showBasket();
    $("basket-dialog").close();
    toast(`Order ${placed.id} is placed: ${money(placed.total)}`);
    show();
  } catch (error) {
    if (error.status === 401) { setToken(null); $("basket-dialog").close(); askLogin(openBasket); return; }
    $("order-error").textContent = error.message;
  }
}

async function showOrders() {
  $("order-list").replaceChildren();
  if (!token) { $("orders-summary").textContent = "Log in to see your orders."; return; }
  try {
    const orders = await api("/orders");
    $("orders-summary").textContent = orders.length ? "" : "You have not ordered anything yet.";
    $("order-list").replaceChildren(...orders.map((order) => element("li", {},
      element("strong", { textContent: `Order ${order.id}` }),
      element("span", { textContent: new Date(order.placed_at).toLocaleString() }),
      element("span", { className: "wide", textContent: order.lines.map((line) => `${line.quantity} × ${line.name}`).join(", ") }),
      element("strong", { textContent: money(order.total) }))));
  } catch (error) {
    $("orders-summary").textContent = error.message;
  }
}

async function showShelf() {
  const page = await api("/products?limit=100");
  $("shelf-list").replaceChildren(...page.items.map((product) => {
    const error = element("p", { className: "error", role: "alert" });
    const picture = element("img", { alt: "", hidden: !product.image, src: product.image ?? "" });
    const input = element("input", { type: "file", accept: "image/png,image/jpeg,image/gif" });
    input.setAttribute("aria-label", `Picture of ${product.name}`);
    input.onchange = async () => {
      error.textContent = "";
      const form = new FormData();
      form.set("image", input.files[0]);
      try {
        picture.src = (await api(`/products/${product.id}/image`, { method: "PUT", form })).image;
        picture.hidden = false;
        toast(`${product.name} has a new picture`);
      } catch (reason) {
        error.textContent = reason.message;
      }
    };
    return element("li", {}, picture, element("strong", { className: "wide", textContent: product.name }), input, error);
  }));
}

// The part of the page that the address names: #shop, #orders, #shelf.
const views = { shop: search, orders: showOrders, shelf: showShelf };
function show() {
  const name = location.hash.slice(1) in views ? location.hash.slice(1) : "shop";
  for (const each of Object.keys(views)) $(each).hidden = each !== name;
  $("search").hidden = name !== "shop";
  views[name]();
}

let waiting;
$("search").oninput = () => { clearTimeout(waiting); waiting = setTimeout(search, 150); };
$("search").onsubmit = (event) => { event.preventDefault(); search(); };
$("basket").onclick = openBasket;
$("account").onclick = () => { if (token) { setToken(null); toast("Bye"); } else askLogin(null); };
$("switch").onclick = () => setRegistering(!registering);
$("login").onsubmit = logIn;
$("login").oninput = () => { $("login-error").textContent = ""; }; // being corrected
$("place-order").onclick = placeOrder;
for (const button of document.querySelectorAll("[data-close]")) button.onclick = () => button.closest("dialog").close();
window.onhashchange = show;
window.onstorage = () => { basket = store.load("basket", {}); showBasket(); }; // of another tab
showBasket();
setToken(token);
