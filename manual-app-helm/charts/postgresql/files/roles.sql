-- Who may do what in the database: the server's own role everything, the owner the schema, the app its rows.
-- prepare.sh runs it at each start; it makes what is missing, and sets again what somebody changed. No blank line within
-- a statement: that is where PostgreSQL, alone with this file, takes one to end.
DO $roles$
DECLARE
  server constant text := 'postgres';
  owner constant text := current_setting('roles.owner');
  app constant text := current_setting('roles.app');
  role text;
  file text;
  password text;
  relation regclass;
BEGIN
  -- Made when the app's role was the server's own: that one is called as everywhere, and the app gets one of its own.
  -- A role cannot rename itself, so for a moment there is another.
  IF pg_get_userbyid(10) = app THEN
    CREATE ROLE renaming SUPERUSER;
    SET SESSION AUTHORIZATION renaming;
    EXECUTE format('ALTER ROLE %I RENAME TO %I', app, server);
    EXECUTE format('SET SESSION AUTHORIZATION %I', server);
    DROP ROLE renaming;
    EXECUTE format('CREATE ROLE %I', app);
    -- Until the migration says it exactly: pods of the version before go on serving meanwhile.
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO %I', app);
  END IF;
  FOR role, file IN
    VALUES (server, current_setting('roles.server_password_file')),
           (owner, current_setting('roles.owner_password_file')),
           (app, current_setting('roles.app_password_file'))
  LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
      EXECUTE format('CREATE ROLE %I', role);
    END IF;
    -- Read here, so that no password is in a statement that somebody else could see.
    password := btrim(pg_read_file(file), E' \t\r\n');
    IF password = '' THEN
      RAISE EXCEPTION 'the password of % is empty', role;
    END IF;
    EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L', role, password);
    IF role <> server THEN
      EXECUTE format('ALTER ROLE %I NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', role);
    END IF;
  END LOOP;
  -- Who owns the database owns the schema public; nobody else makes tables in it, not even temporary ones.
  EXECUTE format('ALTER DATABASE %I OWNER TO %I', current_database(), owner);
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), app);
  ALTER SCHEMA public OWNER TO pg_database_owner;
  REVOKE CREATE ON SCHEMA public FROM PUBLIC;
  FOR relation IN
    SELECT oid FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') AND pg_get_userbyid(relowner) <> owner
  LOOP
    EXECUTE format('ALTER TABLE %s OWNER TO %I', relation, owner);
  END LOOP;
END
$roles$;
