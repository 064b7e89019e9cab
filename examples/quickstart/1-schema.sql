-- A small shop: customers, their orders, and what was ordered.
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, city TEXT);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, day TEXT, total INTEGER);

BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
INSERT INTO customers SELECT i, 'Customer ' || i, 'City ' || i % 50 FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
INSERT INTO orders SELECT i, 1 + i * 7919 % 2000, date('2026-01-01', '+' || i % 365 || ' days'), i * 31 % 9973 FROM n;
COMMIT;
