-- For what the pages ask: a customer's orders, the lines of each, goods by name and price.
CREATE INDEX IF NOT EXISTS order_lines_order ON order_lines (order_id);
CREATE INDEX orders_user ON orders (user_id, id);
CREATE INDEX products_name ON products (name COLLATE NOCASE);
CREATE INDEX products_price ON products (price);
-- Logins that failed, so that passwords can't be guessed quickly: see users.py.
CREATE TABLE failed_logins (
    email TEXT PRIMARY KEY COLLATE NOCASE,
    failures INTEGER NOT NULL,
    next_try REAL NOT NULL
) WITHOUT ROWID;
