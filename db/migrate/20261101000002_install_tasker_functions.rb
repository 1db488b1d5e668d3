# frozen_string_literal: true

class InstallTaskerFunctions < ActiveRecord::Migration[7.1]
  def up = TaskerCore::Postgres::Functions.install!(connection)

  def down = TaskerCore::Postgres::Functions.uninstall!(connection)
end
