LoggedIn app@shop till  #21
Query 'SET AUTOCOMMIT = 0' 18
  1 results, 0 rows, 0 affected
Query 'select 1; select 2, 3; set @a=1; select nope; select 5' 54
  4 results, 2 rows, 0 affected, error 1054 42S22
Query 'create or replace procedure two() begin select 1; select id ' 71
  1 results, 0 rows, 0 affected
Query 'call two()' 10
  3 results, 4 rows, 0 affected
Query 'drop procedure two' 18
  1 results, 0 rows, 0 affected
Quit
